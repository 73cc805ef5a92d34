//! Redaction of texts before they reach the sink.

use super::*;
use crate::transport::ring::entry::MOST_ARGS;

/// A sink that keeps all texts.
#[derive(Debug, Default)]
struct Kept(Vec<Vec<u8>>);

impl Sink for Kept {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        match record {
            Record::Event(frame, _) => self.0.push(frame.with_bytes(ByteOrder::NATIVE, <[u8]>::to_vec)),
            Record::Details(details) => {
                self.0.extend(details.strings().into_iter().flatten().cloned());
                self.0.extend(details.args_len.map(|len| format!("{len} bytes").into_bytes()));
            }
            Record::Scope(scope) => self.0.push(scope.text.clone().into_bytes()),
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

fn redacting(pattern: &str, options: RecordOptions) -> Assembler<Kept> {
    let redact = Some(Redact::new(pattern).unwrap());
    Assembler::new(Kept::default(), setup()).with_options(&RecordOptions { redact, ..options })
}

fn comm(seq: u32, tgid: u32, name: &str) -> Event {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name.as_bytes());
    event(seq, EventBody::Comm { task: Task::new(tgid, tgid), comm })
}

fn joined(texts: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(&texts.join(&b'|')).into_owned()
}

#[test]
fn names_of_threads_are_redacted_and_the_recorders_own_stay() {
    let mut assembler = redacting("hunter2|pmon", RecordOptions::default());
    let own = [SelfGenerated::Fence, SelfGenerated::Heartbeat].map(SelfGenerated::comm);
    let events = [
        comm(1, 5, "hunter2"),
        comm(2, ME, own[0]),
        comm(3, ME, own[1]),
        comm(4, 5, own[0]),
        comm(5, ME, "hunter2"),
    ];
    assembler.add_chunk(&chunk(&events)).unwrap();
    let frames = assembler.into_sink().0;
    let names: Vec<_> = frames
        .iter()
        .map(|frame| match Event::decode(frame, ByteOrder::NATIVE).unwrap().body {
            EventBody::Comm { comm, .. } => String::from_utf8(comm.as_bytes().to_vec()).unwrap(),
            body => panic!("{body:?}"),
        })
        .collect();
    assert_eq!(names, ["[redacted]", own[0], own[1], "[redacted]/fenc", "[redacted]"]);
    assert!(
        frames
            .iter()
            .zip(&events)
            .all(|(frame, event)| frame[..60] == event.encode(ByteOrder::NATIVE).unwrap()[..60])
    );
}

#[test]
fn a_datagram_of_an_unknown_form_is_redacted_and_still_accounted_for() {
    let mut assembler = redacting("hunter2", RecordOptions::default());
    let mut longer = comm(1, 5, "hunter2").encode(ByteOrder::NATIVE).unwrap().to_vec();
    longer.extend_from_slice(b"hunter2!");
    let len = (longer.len() as u32).to_ne_bytes();
    longer[..4].copy_from_slice(&len);
    let mut chunk = Chunk::with_capacity(4);
    chunk.batch.push(&longer, 0);
    chunk.batch.push(b"hunter2", 0);
    assembler.add_chunk(&chunk).unwrap();
    assert_eq!((assembler.counters().events, assembler.counters().malformed), (2, 1));
    let frames = assembler.into_sink().0;
    assert_eq!((frames[0].len(), &frames[0][..60]), (longer.len(), &longer[..60]));
    assert_eq!(frames[1], b"*******");
    assert!(!joined(&frames).contains("hunter2"));
}

#[test]
fn the_scope_is_redacted() {
    let cgroup = Some("/x/hunter2.slice".into());
    let mut assembler = redacting(
        "hunter2",
        RecordOptions { scope: crate::Scope { cgroup, ..Default::default() }, ..RecordOptions::default() },
    );
    assembler.add_chunk(&chunk(&[])).unwrap();
    assert_eq!(joined(&assembler.into_sink().0), "of cgroup /x/[redacted].slice");
}

#[test]
fn arguments_are_redacted_before_they_are_cut() {
    let of = |args: &[u8], args_len| {
        let mut assembler =
            redacting("token=[0-9]{20}", RecordOptions { args_max: 30, ..RecordOptions::default() });
        let subject = DetailsSubject::Snapshot { tgid: Tgid(1) };
        let details = Details {
            miss: None,
            args: Some(args.to_vec()),
            args_len,
            ..Details::missed(subject, MissReason::Gone)
        };
        assembler.record(&Record::Details(Box::new(details))).unwrap();
        joined(&assembler.into_sink().0).replace('\0', " ")
    };
    // After a cut at 30 bytes, the pattern would not match the rest of the secret.
    let text = b"abcdefghijklmnopqrst\0token=12345678901234567890\0x\0";
    assert_eq!(of(text, None), "abcdefghijklmnopqrst [redacted|34 bytes");
    assert_eq!(of(text, Some(200_000)), "abcdefghijklmnopqrst [redacted|200000 bytes");
    assert_eq!(of(b"a\0token=12345678901234567890\0x\0", None), "a [redacted] x ", "it fits by now");
}

#[test]
fn redaction_that_makes_a_text_longer_ends_no_recording() {
    let digits = "1234.".repeat(24_000).into_bytes();
    let long = [digits.clone(), vec![0]].concat();
    let mut assembler =
        redacting("[0-9]{4}", RecordOptions { args_max: usize::MAX, ..RecordOptions::default() });
    let subject = DetailsSubject::Snapshot { tgid: Tgid(1) };
    let details = Details {
        miss: None,
        exe: Some(digits.clone()),
        cgroup: Some(digits),
        args: Some(long),
        ..Details::missed(subject, MissReason::Gone)
    };
    assembler.record(&Record::Details(Box::new(details))).unwrap();
    let texts = assembler.into_sink().0;
    assert!(
        texts
            .iter()
            .all(|text| text.len() <= MOST_ARGS && !joined(std::slice::from_ref(text)).contains("1234"))
    );
}

#[test]
fn an_argument_that_is_cut_where_it_was_read_goes_as_a_whole() {
    let options = RecordOptions { args_max: 4096, ..RecordOptions::default() };
    let read = RecordOptions { redact: Some(Redact::new("x").unwrap()), ..options.clone() }.args_read();
    let mut assembler = redacting("token=[0-9]{20}", options);
    let subject = DetailsSubject::Snapshot { tgid: Tgid(1) };
    // The pattern does not match the beginning of a single argument that was cut while it was read.
    let args = Some([b"token=", &vec![b'1'; read - 6][..]].concat());
    let details =
        Details { miss: None, args, args_len: Some(1 << 20), ..Details::missed(subject, MissReason::Gone) };
    assembler.record(&Record::Details(Box::new(details))).unwrap();
    assert_eq!(joined(&assembler.into_sink().0), "[redacted]|1048576 bytes");
}
