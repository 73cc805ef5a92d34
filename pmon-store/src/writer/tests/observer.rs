use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

#[derive(Default)]
struct Shared {
    is_interested: AtomicBool,
    records: AtomicUsize,
}

struct CountingObserver(Arc<Shared>);

impl RecordObserver for CountingObserver {
    fn is_interested(&mut self) -> bool {
        self.0.is_interested.load(Ordering::Relaxed)
    }

    fn observe(&mut self, _record: &Record<'_>, _model: &ProcessModel) {
        self.0.records.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_observer_receives_the_records_of_the_chunks_that_interest_it() {
    let shared = Arc::new(Shared::default());
    let mut recorder = TestRecorder::new(small());
    recorder.writer.set_observer(Box::new(CountingObserver(shared.clone())));
    let records = || shared.records.load(Ordering::Relaxed);
    recorder.step(10);
    assert_eq!(records(), 0);
    shared.is_interested.store(true, Ordering::Relaxed);
    recorder.step(10);
    assert_eq!(records(), 10 * CPUS);
    shared.is_interested.store(false, Ordering::Relaxed);
    recorder.step(10);
    assert_eq!(records(), 10 * CPUS);
    recorder.finish().2.unwrap();
}
