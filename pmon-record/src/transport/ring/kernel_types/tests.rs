use super::*;

/// Appends a type with its entries.
fn add(types: &mut Vec<u8>, words: &[u32]) {
    types.extend(words.iter().copied().flat_map(u32::to_ne_bytes));
}

/// Types 1 to 5: an integer, a function, two structures, and a pointer to the second structure.
/// Its fields are the first structure, an integer, and the pointer.
fn example() -> KernelTypes {
    let names = b"\0int\0inner\0outer\0call\0a\0b\0c\0";
    let [int, inner, outer, call, a, b, c] = [1, 5, 11, 17, 22, 24, 26];
    let mut types = Vec::new();
    add(&mut types, &[int, INT << 24, 4, 0]);
    add(&mut types, &[call, FUNCTION << 24, 0]);
    add(&mut types, &[inner, STRUCT << 24 | 1, 4, a, 1, 0]);
    add(&mut types, &[outer, STRUCT << 24 | 3, 16, a, 3, 0, b, 1, 32, c, 5, 64]);
    add(&mut types, &[0, POINTER << 24, 4]);
    parse(file(&types, names)).unwrap()
}

fn parse(bytes: Vec<u8>) -> Option<KernelTypes> {
    KernelTypes::parse(ConstantFile::Copied(bytes))
}

#[test]
fn a_structure_keeps_named_fields_and_their_types_but_no_target_of_a_pointer() {
    let names = HashSet::from([&b"outer"[..], b"a", b"c", b"call"]);
    let reduced = parse(example().reduce(&names).unwrap()).unwrap();
    let at = |id: usize| reduced.positions[id - 1] as usize;
    let name = |id| reduced.name(word(reduced.types(), at(id)).unwrap()).unwrap();
    let head = |id| reduced.head(at(id)).unwrap();
    assert_eq!(reduced.positions.len(), 4);
    assert_eq!([1, 2, 3, 4].map(|id| head(id).0), [STRUCT, STRUCT, POINTER, INT]);
    assert_eq!([1, 2, 3, 4].map(name), [&b"outer"[..], b"inner", b"", b"int"]);
    assert_eq!([1, 2].map(|id| head(id).1), [2, 1]);
    let bit_offset_of_c = word(reduced.types(), at(1) + HEAD + 12 + 8);
    assert_eq!((bit_offset_of_c, word(reduced.types(), at(3) + 8)), (Some(64), Some(0)));
}

#[test]
fn a_function_is_found_by_its_name() {
    let types = example();
    assert_eq!(["call", "outer", ""].map(|name| types.function(name)), [Some(2), None, None]);
}

#[test]
fn a_truncated_description_is_rejected() {
    let bytes = example().file.to_vec();
    assert!(parse(bytes.clone()).is_some());
    for len in 0..bytes.len() {
        assert!(parse(bytes[..len].to_vec()).is_none(), "{len}");
    }
}
