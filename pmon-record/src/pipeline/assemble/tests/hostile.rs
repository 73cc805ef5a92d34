//! Any names and arguments of processes can be recorded, and reading returns them unchanged.

use pmon_core::batch::Arrival;
use pmon_core::capture::{Encoder, Header, Item, Meta, Reader};
use proptest::prelude::*;

use super::*;
use crate::transport::ring::entry::{MAX_ARGS_BYTES, MAX_METADATA_BYTES};

/// One input of a recorder.
#[derive(Clone, Debug)]
enum HostileInput {
    /// Details are read from `/proc`.
    Details(Box<Details>),
    /// The ring delivers an exec with these details.
    Exec(Vec<u8>),
    /// Time passes.
    Tick,
}

/// A capture in memory.
struct CaptureSink {
    encoder: Encoder,
    bytes: Vec<u8>,
}

impl CaptureSink {
    fn new() -> Self {
        let header = Header { uuid: [7; 16], byte_order: ByteOrder::NATIVE, meta: Meta::default() };
        let encoder = Encoder::new(&header).unwrap();
        Self { bytes: encoder.header().to_vec(), encoder }
    }
}

impl Sink for CaptureSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.encoder.push(record)?;
        if self.encoder.is_full() {
            self.bytes.extend_from_slice(self.encoder.seal());
        }
        Ok(())
    }

    /// Seals a block, so that the inputs fill blocks of all sizes.
    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        self.bytes.extend_from_slice(self.encoder.seal());
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.bytes.extend_from_slice(self.encoder.seal());
        self.bytes.extend_from_slice(self.encoder.finish());
        Ok(())
    }
}

/// Bytes that a process may have in any text, even where the kernel limits the length.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![6 => 0..300_usize, 2 => 4000..4200_usize, 1 => Just(128 << 10), 1 => 130_000..400_000_usize];
    let byte = prop_oneof![Just(0), Just(b'\n'), Just(0xff), Just(b' '), any::<u8>()];
    let words = (0..20_000_u32, 0..30_000_u32).prop_map(|(first, count)| {
        (first..first + count).flat_map(|n| format!("{n:x}\0").into_bytes()).collect::<Vec<_>>()
    });
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..300),
        2 => (byte, len).prop_map(|(byte, len)| vec![byte; len]),
        1 => words,
    ]
}

fn any_details() -> impl Strategy<Value = Box<Details>> {
    let text = || prop::option::weighted(0.8, any_text());
    let texts = (text(), text(), text(), text(), text(), text());
    (any::<(u32, u32, u64)>(), texts, prop::option::of(1..u64::MAX)).prop_map(
        |((tgid, ppid, time), texts, args_len)| {
            let (comm, exe, filename, cwd, cgroup, args) = texts;
            let subject = DetailsSubject::Exec { tgid: Tgid(tgid), time: MonoNs(time) };
            let missed = Details::missed(subject, MissReason::Gone);
            Box::new(Details {
                miss: None,
                ppid: Some(ppid),
                comm,
                exe,
                filename,
                cwd,
                cgroup,
                args,
                args_len,
                ..missed
            })
        },
    )
}

fn any_input() -> impl Strategy<Value = HostileInput> {
    let metadata = prop::collection::vec(any::<u8>(), 0..MAX_METADATA_BYTES + 2000);
    prop_oneof![4 => any_details().prop_map(HostileInput::Details), 2 => metadata.prop_map(HostileInput::Exec), 1 => Just(HostileInput::Tick)]
}

/// Records the inputs into a file, and returns the recorded details of each
/// [`HostileInput::Details`].
fn recorded(inputs: &[HostileInput], redact: Option<Redact>) -> Vec<Details> {
    let options = RecordOptions { args_max: usize::MAX, redact, ..RecordOptions::default() };
    let mut assembler = Assembler::new(CaptureSink::new(), settings()).with_options(&options);
    let mut execs = 0;
    for (n, input) in inputs.iter().enumerate() {
        match input {
            HostileInput::Details(details) => assembler.record(&Record::Details(details.clone())).unwrap(),
            HostileInput::Exec(metadata) => {
                let mut chunk = Chunk::with_metadata(1, metadata.len(), metadata.len());
                let exec = exec(n as u32 + 1, 1 << 30).encode(ByteOrder::NATIVE).unwrap();
                let arrival = Arrival { len: exec.len(), sender: 0 };
                assert!(chunk.batch.push_with_metadata(&exec, arrival, &[metadata]));
                execs += 1;
                assembler.add_chunk(&chunk).unwrap();
            }
            HostileInput::Tick => {
                assembler.sink_mut().tick(Instant::now()).map(drop).unwrap();
            }
        }
    }
    let end = assembler.finish(ms(1_000_000)).unwrap();
    assert_eq!(end.events, execs);
    let capture = assembler.into_sink().bytes;
    let mut reader = Reader::open(&capture[..]).unwrap();
    let (mut recorded, mut events) = (Vec::new(), 0);
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { panic!("the capture is damaged") };
        for record in block.records() {
            match record {
                Record::Event(..) => events += 1,
                Record::Details(details) if details.subject.tgid() != Tgid(1 << 30) => {
                    recorded.push(*details)
                }
                _ => {}
            }
        }
    }
    assert!(reader.ended_cleanly());
    assert_eq!(events, execs);
    recorded
}

/// Returns the details that must be recorded: all except texts that are too long.
fn expected(details: &Details) -> Details {
    let mut details = details.clone();
    let is_long = |text: &Option<Vec<u8>>| text.as_ref().is_some_and(|text| text.len() > MAX_ARGS_BYTES);
    if let Some(args) = details.args.as_mut().filter(|args| args.len() > MAX_ARGS_BYTES) {
        details.args_len = details.args_len.max(Some(args.len() as u64));
        args.truncate(MAX_ARGS_BYTES);
    }
    for text in
        [&mut details.comm, &mut details.exe, &mut details.filename, &mut details.cwd, &mut details.cgroup]
    {
        if is_long(text) {
            (*text, details.miss) = (None, Some(MissReason::TooLong));
        }
    }
    details
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_details_are_recorded_unchanged_and_do_not_end_the_recording(inputs in prop::collection::vec(any_input(), 0..12)) {
        let all: Vec<_> = inputs
            .iter()
            .filter_map(|input| if let HostileInput::Details(details) = input { Some(expected(details)) } else { None })
            .collect();
        let found = recorded(&inputs, None);
        prop_assert_eq!(found.len(), all.len());
        for (found, expected) in found.iter().zip(&all) {
            prop_assert!(found == expected, "{:?}", expected.subject);
        }
    }
}

proptest! {
    // Few cases, because the regex engine is not optimised in tests.
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn redaction_of_any_details_does_not_end_the_recording(
        inputs in prop::collection::vec(any_input(), 0..2),
        pattern in prop::sample::select(vec!["[0-9]", ".", r"\xff", "[^ ]+", "(a)|b", "\\s"]),
    ) {
        let found = recorded(&inputs, Some(Redact::new(pattern).unwrap()));
        prop_assert_eq!(found.len(), inputs.iter().filter(|input| matches!(input, HostileInput::Details(_))).count());
        let is_short = |details: &Details| details.strings().into_iter().flatten().all(|text| text.len() <= MAX_ARGS_BYTES);
        prop_assert!(found.iter().all(is_short));
    }
}
