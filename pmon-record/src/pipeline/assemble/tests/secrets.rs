//! Texts are redacted before they reach the sink.

use pmon_core::wire::layout;

use super::*;
use crate::transport::ring::entry::MAX_ARGS_BYTES;

/// A sink that keeps all texts.
#[derive(Debug, Default)]
struct KeptTexts(Vec<Vec<u8>>);

impl Sink for KeptTexts {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        match record {
            Record::Event(datagram, usage) => {
                self.0.push(datagram.with_bytes(ByteOrder::NATIVE, <[u8]>::to_vec));
                if let Some(SignalOrigin::Process { sender, .. }) =
                    usage.as_ref().map(|usage| usage.fatal_signal.origin)
                {
                    self.0.push(sender.comm.as_bytes().to_vec());
                }
            }
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

fn redacting(pattern: &str, options: RecordOptions) -> Assembler<KeptTexts> {
    let redact = Some(Redact::new(pattern).unwrap());
    Assembler::new(KeptTexts::default(), settings()).with_options(&RecordOptions { redact, ..options })
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
fn thread_names_are_redacted_except_the_recorders_own() {
    let mut assembler = redacting("hunter2|pmon", RecordOptions::default());
    let own = [SelfGenerated::Fence, SelfGenerated::Heartbeat].map(SelfGenerated::comm);
    let events = [
        comm(1, 5, "hunter2"),
        comm(2, RECORDER, own[0]),
        comm(3, RECORDER, own[1]),
        comm(4, 5, own[0]),
        comm(5, RECORDER, "hunter2"),
    ];
    assembler.add_chunk(&chunk(&events)).unwrap();
    let datagrams = assembler.into_sink().0;
    let names: Vec<_> = datagrams
        .iter()
        .map(|datagram| match Event::decode(datagram, ByteOrder::NATIVE).unwrap().body {
            EventBody::Comm { comm, .. } => String::from_utf8(comm.as_bytes().to_vec()).unwrap(),
            body => panic!("{body:?}"),
        })
        .collect();
    assert_eq!(names, ["[redacted]", own[0], own[1], "[redacted]/fenc", "[redacted]"]);
    assert!(
        datagrams
            .iter()
            .zip(&events)
            .all(|(datagram, event)| datagram[..60] == event.encode(ByteOrder::NATIVE).unwrap()[..60])
    );
}

#[test]
fn the_name_of_the_sender_of_a_signal_is_redacted() {
    let mut assembler = redacting("hunter2", RecordOptions::default());
    let exit = EventBody::Exit { task: Task::new(5, 5), code: 9, signal: 17, parent: None };
    let exit = event(1, exit).encode(ByteOrder::NATIVE).unwrap();
    // `struct exit` of bpf/record.h, without the datagram.
    let mut metadata = [0; 224 - 76];
    metadata[176 - 76] = 2;
    metadata[200 - 76..][..7].copy_from_slice(b"hunter2");
    let mut chunk = Chunk::with_capacity(4);
    chunk.batch = pmon_core::batch::Batch::with_metadata(4, 1 << 16, metadata.len());
    let arrival = pmon_core::batch::Arrival { len: exit.len(), sender: 0 };
    assert!(chunk.batch.push_with_metadata(&exit, arrival, &[&metadata]));
    assembler.add_chunk(&chunk).unwrap();
    assert_eq!(assembler.into_sink().0[1], b"[redacted]");
}

#[test]
fn a_datagram_of_an_unknown_form_is_redacted_and_its_number_is_counted() {
    let mut assembler = redacting("hunter2", RecordOptions::default());
    let mut longer = comm(1, 5, "hunter2").encode(ByteOrder::NATIVE).unwrap().to_vec();
    longer.extend_from_slice(b"hunter2!");
    let len = (longer.len() as u32).to_ne_bytes();
    longer[layout::NLMSG_LEN].copy_from_slice(&len);
    let mut chunk = Chunk::with_capacity(4);
    chunk.batch.push(&longer, 0);
    chunk.batch.push(b"hunter2", 0);
    assembler.add_chunk(&chunk).unwrap();
    assert_eq!((assembler.counters().events, assembler.counters().malformed), (2, 1));
    let datagrams = assembler.into_sink().0;
    assert_eq!((datagrams[0].len(), &datagrams[0][..60]), (longer.len(), &longer[..60]));
    assert_eq!(datagrams[1], b"*******");
    assert!(!joined(&datagrams).contains("hunter2"));
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
fn arguments_are_redacted_before_they_are_truncated() {
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
    assert_eq!(
        of(b"a\0token=12345678901234567890\0x\0", None),
        "a [redacted] x ",
        "the redacted arguments fit"
    );
}

#[test]
fn redaction_that_lengthens_a_text_does_not_end_the_recording() {
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
            .all(|text| text.len() <= MAX_ARGS_BYTES && !joined(std::slice::from_ref(text)).contains("1234"))
    );
}

#[test]
fn an_argument_that_was_truncated_while_reading_is_redacted_completely() {
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
