use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn columns_read_back_as_written(
        times in prop::collection::vec(any::<u64>(), 0..300),
        tags in prop::collection::vec(0..256_u64, 0..300),
        raw in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut writer = ColumnWriter::default();
        times.iter().for_each(|&value| writer.put(Column::Time, value));
        tags.iter().for_each(|&value| writer.put(Column::Tag, value));
        writer.put_bytes(Column::RawBytes, &raw);
        let mut payload = Vec::new();
        writer.flush(&mut payload);
        let mut reader = ColumnReader::default();
        prop_assert!(reader.load(&payload, usize::MAX).is_ok());
        for (column, values) in [(Column::Time, times), (Column::Tag, tags)] {
            let mut read = reader.numbers(column);
            for value in values {
                prop_assert_eq!(read.take(), value);
            }
            prop_assert_eq!(read.take(), 0);
        }
        prop_assert_eq!(reader.bytes(Column::RawBytes), raw);
    }
}
