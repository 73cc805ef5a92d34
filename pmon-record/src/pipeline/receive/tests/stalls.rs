//! Tests what a stalled writer loses.

use super::*;

/// Runs the steps and returns the losses by cause.
fn run(chunks: usize, steps: &[PipelineStep]) -> LossByCause {
    let mut simulation = PipelineSimulation::new(chunks, [0; CPUS], false);
    steps.iter().for_each(|step| simulation.step(step));
    let (expected, recorded) = simulation.finish();
    check([0; CPUS], &expected, &RecordedEvents::new(&recorded)).unwrap();
    expected.end.lost
}

#[test]
fn a_stalled_writer_loses_events_only_when_all_chunks_are_full_and_they_are_counted() {
    let full = |cpu, count| [PipelineStep::Arrive { cpu, count }, PipelineStep::Receive];
    // The first chunk also holds the three events of the first fence.
    let fits = [full(0, DATAGRAMS_PER_CHUNK as u64 - 3), full(1, DATAGRAMS_PER_CHUNK as u64)].concat();
    assert_eq!(run(3, &fits).total(), 0);
    let lost = run(2, &[fits, full(2, 300).into()].concat());
    assert_eq!(lost.of(LossCause::Backpressure), 300 + CPUS as u64);
    assert_eq!(lost.total(), 300 + CPUS as u64);
}

#[test]
fn recording_continues_as_soon_as_a_chunk_is_free() {
    let steps = [
        PipelineStep::Arrive { cpu: 0, count: 4 * DATAGRAMS_PER_CHUNK as u64 },
        PipelineStep::Receive,
        PipelineStep::Receive,
        PipelineStep::Receive,
        PipelineStep::Receive,
        PipelineStep::Write { chunks: 2 },
        PipelineStep::Arrive { cpu: 1, count: 5 },
    ];
    let lost = run(2, &steps);
    assert!(
        lost.of(LossCause::Backpressure) > 0 && lost.total() < 3 * DATAGRAMS_PER_CHUNK as u64,
        "{lost:?}"
    );
}

#[test]
fn the_last_fence_reveals_a_loss_at_the_end() {
    let steps = [
        PipelineStep::Arrive { cpu: 0, count: 3 },
        PipelineStep::Receive,
        PipelineStep::Overrun { cpu: 1, count: 1000 },
        PipelineStep::Receive,
        PipelineStep::HandOver,
    ];
    assert_eq!(run(4, &steps).of(LossCause::Socket), 1000);
}

#[test]
fn missing_memory_is_detected_before_any_is_allocated() {
    assert!(is_memory_available(1 << 20, 0) && is_memory_available(0, 1 << 10));
    // More than any address space, and sizes that overflow.
    for bytes in [1 << 60, usize::MAX / 2, usize::MAX] {
        assert!(!is_memory_available(bytes, 0) && !is_memory_available(bytes, 140 << 10), "{bytes}");
    }
}

/// The events of two fences are dropped, and the event that is excluded between them is no loss.
#[test]
fn an_exclusion_among_the_first_dropped_events_of_a_cpu_is_not_a_loss() {
    use PipelineStep::{Exclude, Fence, HandOver};
    let lost = run(2, &[Fence, HandOver, Exclude { cpu: 0, count: 1 }, Fence, HandOver]);
    assert_eq!((lost.of(LossCause::Backpressure), lost.total()), (2 * CPUS as u64, 2 * CPUS as u64));
}
