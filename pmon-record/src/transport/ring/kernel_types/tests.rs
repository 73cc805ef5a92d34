use super::*;

/// Types 1 to 5: an integer, a function, two structures, and a pointer to the second structure.
/// Its fields are the first structure, an integer, and the pointer.
fn example() -> KernelTypes {
    let names = b"\0int\0inner\0outer\0call\0a\0b\0c\0";
    let [int, inner, outer, call, a, b, c] = [1, 5, 11, 17, 22, 24, 26];
    let mut types = Vec::new();
    types.extend([int, BTF_KIND_INT << 24, 4, 0]);
    types.extend([call, BTF_KIND_FUNC << 24, 0]);
    types.extend([inner, BTF_KIND_STRUCT << 24 | 1, 4, a, 1, 0]);
    types.extend([outer, BTF_KIND_STRUCT << 24 | 3, 16, a, 3, 0, b, 1, 32, c, 5, 64]);
    types.extend([0, BTF_KIND_PTR << 24, 4]);
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
    let name = |id| reduced.name_at(at(id));
    let head = |id| reduced.head(at(id));
    assert_eq!(reduced.positions.len(), 4);
    assert_eq!(
        [1, 2, 3, 4].map(|id| head(id).0),
        [BTF_KIND_STRUCT, BTF_KIND_STRUCT, BTF_KIND_PTR, BTF_KIND_INT]
    );
    assert_eq!([1, 2, 3, 4].map(name), [&b"outer"[..], b"inner", b"", b"int"]);
    assert_eq!([1, 2].map(|id| head(id).1), [2, 1]);
    let bit_offset_of_c = u32_at(&reduced.file, at(1) + HEAD + 12 + 8);
    assert_eq!((bit_offset_of_c, u32_at(&reduced.file, at(3) + 8)), (64, 0));
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
