//! What of a message is usual, and what is handed over for which reason.

use crate::laws::build::{
    Message, at_least, doubles, evaluated, field, floats, gate, is_handed, model, number, parts, request, response,
    strip, tensor,
};
use crate::message::{Tensors, read_response};
use crate::{Model, UNUSUAL, Unusual, read_request};

const ROW: [f64; 3] = [0.5, 0.0, 0.0];

/// Every row of the tests here is in the domain, and every answer fine.
fn ours() -> Model {
    model(&[gate(strip(-10.0, 10.0), at_least(&[(0, 1.0)]))])
}

fn asked(name: &str) -> Vec<u8> {
    field(6, &field(1, name.as_bytes()))
}

fn handed(request: &[u8]) -> Option<Unusual> {
    is_handed(&ours(), request)
}

fn answer_handed(response: &[u8]) -> Option<Unusual> {
    evaluated(&ours(), &request(&[ROW]).bytes(), response).err()
}

/// An entry of a map of parameters.
fn entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    field(4, &[field(1, key), field(2, value)].concat())
}

fn all_kinds_of_parameters() -> Vec<u8> {
    let double = [vec![4 << 3 | 1], 1.5f64.to_le_bytes().to_vec()].concat();
    [
        entry(b"a", b"\x08\x01"),
        entry(b"b", b"\x10\x07"),
        entry(b"c", &field(3, b"text")),
        entry(b"d", &double),
    ]
    .concat()
    .into_iter()
    .chain(entry(b"", b"\x28\x09"))
    .chain(entry(b"e", b""))
    .chain(field(4, b""))
    .collect()
}

#[test]
fn an_ordinary_request_is_read() {
    let message = [
        field(2, b"7"),
        field(3, b"id"),
        all_kinds_of_parameters(),
        request(&[ROW]).bytes(),
    ]
    .concat();
    let read = read_request(&message).unwrap();
    assert_eq!((read.model_name, read.model_version), ("m", "7"));
    assert_eq!(handed(&message), None);
}

#[test]
fn an_ordinary_answer_is_read() {
    let message = response(&[ROW]).with([field(2, b"7"), field(3, b"id"), all_kinds_of_parameters()].concat());
    assert_eq!(read_response(&message).unwrap().model_version, "7");
    assert_eq!(answer_handed(&message), None);
    let with_parameters = [tensor("y", "FP32", &[1, 2]), all_kinds_of_parameters()].concat();
    assert_eq!(
        answer_handed(&response(&[ROW]).replacing(1, field(5, &with_parameters))),
        None
    );
}

#[test]
fn typed_contents_are_handed_over_unless_there_is_nothing_in_them() {
    let with = |contents: &[u8]| field(5, &[tensor("y", "FP32", &[1, 2]), field(5, contents)].concat());
    assert_eq!(
        answer_handed(&response(&[ROW]).replacing(1, with(b""))),
        None,
        "as MLServer writes"
    );
    assert_eq!(
        answer_handed(&response(&[ROW]).replacing(1, with(&field(6, b"")))),
        Some(Unusual::Field)
    );
    let with = |contents: &[u8]| field(5, &[tensor("x", "FP32", &[1, 2]), field(5, contents)].concat());
    assert_eq!(
        handed(&request(&[ROW]).replacing(1, with(b""))),
        Some(Unusual::Field),
        "nobody writes that"
    );
    assert_eq!(
        handed(&request(&[ROW]).replacing(1, with(&field(6, b"")))),
        Some(Unusual::Field)
    );
}

#[test]
fn parameters_that_may_mean_something_are_looked_into_by_python() {
    let named = |parameter: Vec<u8>| field(5, &[tensor("x", "FP32", &[1, 2]), parameter].concat());
    assert_eq!(
        handed(&request(&[ROW]).replacing(1, named(entry(b"a", b"")))),
        Some(Unusual::Field)
    );
    let output = field(6, &[field(1, b"y"), entry(b"classification", b"\x10\x02")].concat());
    assert_eq!(handed(&request(&[ROW]).with(output)), Some(Unusual::Field));
}

#[test]
fn entries_that_readers_do_not_agree_on_are_handed_over() {
    for (parameter, why) in [
        (
            field(4, &[field(1, b"k"), field(2, b""), field(3, b"")].concat()),
            Unusual::Field,
        ),
        (field(4, &[field(1, b"k"), field(1, b"k")].concat()), Unusual::Encoding),
        (field(4, &[field(2, b""), field(2, b"")].concat()), Unusual::Encoding),
        (field(4, b"\x08\x01"), Unusual::Encoding), // a key that is a number
        (field(4, b"\x10\x01"), Unusual::Encoding), // a value that is a number
        (field(4, &field(1, b"\xff")), Unusual::Encoding), // a key that is no text
        (entry(b"k", &field(1, b"")), Unusual::Field), // a boolean that is bytes
        (entry(b"k", b"\x20\x01"), Unusual::Field), // a double that is a number
        (entry(b"k", b"\x18\x01"), Unusual::Encoding), // a text that is a number
        (entry(b"k", &field(3, b"\xff")), Unusual::Encoding), // a text that is none
        (entry(b"k", b"\x30\x01"), Unusual::Field), // of another kind
        (entry(b"k", b"\x08"), Unusual::Encoding),  // cut short
        (b"\x20\x01".to_vec(), Unusual::Encoding),  // no entry at all
    ] {
        assert_eq!(
            handed(&request(&[ROW]).with(parameter.clone())),
            Some(why),
            "{parameter:?}"
        );
        assert_eq!(
            answer_handed(&response(&[ROW]).with(parameter.clone())),
            Some(why),
            "{parameter:?}"
        );
    }
}

#[test]
fn fields_of_other_kinds_or_numbers_are_handed_over() {
    for (extra, why) in [
        (field(8, b""), Unusual::Field),
        (b"\x08\x01".to_vec(), Unusual::Encoding),
        (b"\x10\x01".to_vec(), Unusual::Encoding),
        (b"\x18\x01".to_vec(), Unusual::Encoding),
        (b"\x28\x01".to_vec(), Unusual::Encoding),
        (b"\x30\x01".to_vec(), Unusual::Encoding),
        (field(1, b"m"), Unusual::Encoding), // twice
        (field(3, b"\xff"), Unusual::Encoding),
        (b"\x0a".to_vec(), Unusual::Encoding),
        (field(5, b"\x20\x01"), Unusual::Encoding), // a parameter of an answer's tensor, or a field of none
    ] {
        let why_request = if extra == field(5, b"\x20\x01") {
            Unusual::Field
        } else {
            why
        };
        assert_eq!(
            handed(&request(&[ROW]).with(extra.clone())),
            Some(why_request),
            "{extra:?}"
        );
        assert_eq!(
            answer_handed(&response(&[ROW]).with(extra.clone())),
            Some(why),
            "{extra:?}"
        );
    }
    assert_eq!(
        handed(&request(&[ROW]).with(b"\x38\x01".to_vec())),
        Some(Unusual::Encoding)
    );
    assert_eq!(
        answer_handed(&response(&[ROW]).with(field(7, b""))),
        Some(Unusual::Field)
    );
}

#[test]
fn tensors_are_described_once() {
    let x = |more: &[u8]| request(&[ROW]).replacing(1, field(5, &[&tensor("x", "FP32", &[1, 2]), more].concat()));
    assert_eq!(handed(&x(b"")), None);
    for (more, why) in [
        (field(1, b"x"), Unusual::Encoding),
        (field(2, b"FP32"), Unusual::Encoding),
        (field(3, b""), Unusual::Field),
        (field(6, b""), Unusual::Field),
        (b"\x19\0\0\0\0\0\0\0\0".to_vec(), Unusual::Field),
        (b"\x08\x01".to_vec(), Unusual::Encoding),
        (field(3, b"\x81"), Unusual::Encoding),
        (field(3, b"\x81\x00"), Unusual::Encoding),
        (field(3, &[0xff; 10]), Unusual::Encoding), // a negative size
        (field(3, b"\x01"), Unusual::Tensors),
    ] {
        assert_eq!(handed(&x(&more)), Some(why), "{more:?}");
    }
    let output = |more: &[u8]| request(&[ROW]).with([asked("z"), field(6, more)].concat());
    assert_eq!(handed(&output(&field(1, b"y"))), None);
    assert_eq!(handed(&output(b"\x08\x01")), Some(Unusual::Encoding));
    assert_eq!(handed(&output(b"\x08")), Some(Unusual::Encoding));
    assert_eq!(
        handed(&output(&[field(1, b"y"), field(1, b"y")].concat())),
        Some(Unusual::Encoding)
    );
}

#[test]
fn shapes_may_be_packed_or_not() {
    let shape = |bytes: &[u8]| {
        let described = [&field(1, b"x"), &field(2, b"FP32"), bytes].concat();
        handed(&request(&[ROW]).replacing(1, field(5, &described)))
    };
    assert_eq!(shape(b"\x1a\x02\x01\x02"), None);
    assert_eq!(shape(b"\x18\x01\x18\x02"), None);
    assert_eq!(shape(b"\x18\x01\x1a\x01\x02"), None);
    assert_eq!(shape(b"\x18\x02\x18\x01"), Some(Unusual::Tensors));
    assert_eq!(shape(b""), Some(Unusual::Tensors));
    assert_eq!(shape(&[0x18, 1].repeat(9)), Some(Unusual::Size));
    assert_eq!(shape(&field(3, &[1; 9])), Some(Unusual::Size));
}

#[test]
fn tensors_come_in_any_order_with_their_contents() {
    let [_, x, w, raw_x, raw_w] = <[Vec<u8>; 5]>::try_from(request(&[ROW]).0).unwrap();
    let [_, y, z, raw_y, raw_z] = <[Vec<u8>; 5]>::try_from(response(&[[1.0, 2.0, 3.0]]).0).unwrap();
    let (other, raw_other) = (field(5, &tensor("other", "BYTES", &[3])), field(7, b"anything"));
    // y0 < y1 < z, so that a mix-up fires.
    let gate = gate(strip(0.5, 0.5), at_least(&[(4, -1.0), (5, 1.0), (0, -1.0)]));
    let model = model(&[gate]);
    let requests = [
        vec![&x, &w, &raw_x, &raw_w],
        vec![&w, &x, &raw_w, &raw_x],
        vec![&raw_w, &w, &raw_x, &x],
        vec![&w, &other, &x, &raw_w, &raw_other, &raw_x],
    ];
    let raw_other = field(6, b"");
    let responses = [
        vec![&y, &z, &raw_y, &raw_z],
        vec![&z, &y, &raw_z, &raw_y],
        vec![&raw_z, &z, &raw_y, &y],
        vec![&other, &z, &y, &raw_other, &raw_z, &raw_y],
    ];
    for request in &requests {
        for response in &responses {
            let join = |fields: &Vec<&Vec<u8>>| {
                fields
                    .iter()
                    .flat_map(|field| field.iter().copied())
                    .collect::<Vec<_>>()
            };
            assert_eq!(evaluated(&model, &join(request), &join(response)).unwrap().untouched, 1);
        }
    }
}

#[test]
fn tensors_that_do_not_fit_are_handed_over() {
    let good = request(&[ROW, ROW]);
    let x = |described: &[u8]| good.replacing(1, field(5, described));
    for bytes in [
        x(&tensor("X", "FP32", &[2, 2])),                // missing
        x(&tensor("w", "FP32", &[2, 2])),                // doubled
        x(&tensor("x", "FP64", &[2, 2])),                // another datatype
        x(&tensor("x", "INT32", &[2, 2])),               // one that is not read here
        x(&tensor("x", "FP32", &[2, 3])),                // another row
        x(&tensor("x", "FP32", &[2, 2, 1])),             // more of one
        x(&tensor("x", "FP32", &[2])),                   // less of one
        x(&tensor("x", "FP32", &[1, 2])),                // fewer rows than contents
        x(&tensor("x", "FP32", &[0, 2])),                // none
        x(&tensor("x", "FP32", &[1 << 61, 2])),          // more than there are bytes to count them
        good.replacing(3, field(7, &floats(&[0.0; 3]))), // contents cut short
        good.replacing(3, field(7, b"")),                // no contents
        good.replacing(3, vec![]),                       // too few of them
        good.with(field(7, b"")),                        // too many of them
        good.with(
            [
                field(5, &tensor("other", "FP32", &[1])),
                field(5, &tensor("other", "FP32", &[1])),
                field(7, b""),
                field(7, b""),
            ]
            .concat(),
        ), // doubled, if not ours
        [field(1, b"m")].concat(),                       // no tensor at all
    ] {
        assert_eq!(handed(&bytes), Some(Unusual::Tensors), "{bytes:?}");
    }
    let fewer = good.replacing(2, field(5, &tensor("w", "FP64", &[1])));
    assert_eq!(handed(&fewer), Some(Unusual::Tensors));
    let mut agreed = good.clone();
    agreed.0[2] = field(5, &tensor("w", "FP64", &[1]));
    agreed.0[4] = field(7, &doubles(&[0.0]));
    assert_eq!(
        handed(&agreed.bytes()),
        Some(Unusual::Tensors),
        "tensors of different numbers of rows"
    );
}

#[test]
fn an_answer_has_as_many_rows_as_its_request() {
    for (rows, expected) in [(1, None), (2, Some(Unusual::Tensors))] {
        assert_eq!(answer_handed(&response(&vec![ROW; rows]).bytes()), expected);
    }
    assert_eq!(answer_handed(b""), Some(Unusual::Tensors));
    assert_eq!(answer_handed(b"\xff"), Some(Unusual::Encoding));
}

#[test]
fn a_model_without_batches_takes_one_row() {
    let mut parts = parts(&[gate(strip(-10.0, 10.0), at_least(&[(4, 1.0)]))]);
    parts.batched = false;
    let model = Model::new(parts).unwrap();
    let unbatched = |message: Message, sides: [(&str, &str, &[u64]); 2]| {
        let mut changed = message;
        for (at, (name, datatype, shape)) in sides.into_iter().enumerate() {
            changed.0[1 + at] = field(5, &tensor(name, datatype, shape));
        }
        changed.bytes()
    };
    let request_of = |x: &[u64], w: &[u64]| unbatched(request(&[ROW]), [("x", "FP32", x), ("w", "FP64", w)]);
    let answer = unbatched(response(&[ROW]), [("y", "FP32", &[2]), ("z", "FP64", &[1])]);
    assert_eq!(evaluated(&model, &request_of(&[2], &[]), &answer).unwrap().untouched, 1);
    assert_eq!(is_handed(&model, &request_of(&[1, 2], &[])), Some(Unusual::Tensors));
    assert_eq!(is_handed(&model, &request_of(&[2], &[1])), Some(Unusual::Tensors));
    let batched = evaluated(&model, &request_of(&[2], &[]), &response(&[ROW]).bytes());
    assert_eq!(batched, Err(Unusual::Tensors));
}

#[test]
fn batches_are_limited() {
    assert_eq!(handed(&request(&[]).bytes()), Some(Unusual::Tensors));
    assert_eq!(handed(&request(&[ROW; 4]).bytes()), None);
    assert_eq!(handed(&request(&[ROW; 5]).bytes()), Some(Unusual::Tensors));
}

#[test]
fn values_that_are_not_finite_are_handed_over_on_both_sides() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for column in 0..3 {
            for row in 0..2 {
                let mut rows = [ROW; 2];
                rows[row][column] = bad;
                assert_eq!(handed(&request(&rows).bytes()), Some(Unusual::NotFinite));
                let judged = evaluated(&ours(), &request(&[ROW; 2]).bytes(), &response(&rows).bytes());
                assert_eq!(judged, Err(Unusual::NotFinite));
            }
        }
    }
}

#[test]
fn outputs_that_gates_need_have_to_be_asked_for_if_any_are() {
    let with = |names: &[&str]| handed(&request(&[ROW]).with(names.iter().flat_map(|name| asked(name)).collect()));
    assert_eq!(with(&[]), None);
    assert_eq!(with(&["y", "z"]), None);
    assert_eq!(with(&["z", "other", "y"]), None);
    assert_eq!(with(&["y"]), Some(Unusual::Outputs));
    assert_eq!(with(&["other"]), Some(Unusual::Outputs));
    assert_eq!(with(&["y", "z", "y"]), Some(Unusual::Outputs));
    assert_eq!(with(&["y", "z", "other", "other"]), Some(Unusual::Outputs));
}

#[test]
fn there_are_sixteen_tensors_and_outputs_at_most() {
    let more = |count: usize, one: &dyn Fn(&str) -> Vec<u8>| -> Vec<u8> {
        (0..count).flat_map(|at| one(&format!("other{at}"))).collect()
    };
    let tensors = |count| {
        more(count, &|name| {
            [field(5, &tensor(name, "BYTES", &[1])), field(7, b"")].concat()
        })
    };
    assert_eq!(handed(&request(&[ROW]).with(tensors(14))), None);
    assert_eq!(handed(&request(&[ROW]).with(tensors(15))), Some(Unusual::Size));
    assert_eq!(
        handed(&request(&[ROW]).with(more(17, &|_| field(7, b"")))),
        Some(Unusual::Size)
    );
    let outputs = |count| [asked("y"), asked("z"), more(count, &|name| asked(name))].concat();
    assert_eq!(handed(&request(&[ROW]).with(outputs(14))), None);
    assert_eq!(handed(&request(&[ROW]).with(outputs(15))), Some(Unusual::Size));
    let tensors = |count| {
        more(count, &|name| {
            [field(5, &tensor(name, "BYTES", &[1])), field(6, b"")].concat()
        })
    };
    assert_eq!(answer_handed(&response(&[ROW]).with(tensors(14))), None);
    assert_eq!(answer_handed(&response(&[ROW]).with(tensors(15))), Some(Unusual::Size));
    assert_eq!(
        answer_handed(&response(&[ROW]).with(more(17, &|_| field(6, b"")))),
        Some(Unusual::Size)
    );
}

#[test]
fn a_model_of_more_tensors_than_are_kept_track_of_is_handed_over() {
    let mut parts = parts(&[gate(strip(-10.0, 10.0), at_least(&[(0, 1.0)]))]);
    let one = parts.outputs[1].clone();
    parts.outputs = vec![one; 17];
    let model = Model::new(parts).unwrap();
    let judged = evaluated(&model, &request(&[ROW]).bytes(), &response(&[ROW]).bytes());
    assert_eq!(judged, Err(Unusual::Size));
}

#[test]
fn what_is_no_contents_is_small() {
    let named = |size| request(&[ROW]).with(field(3, &vec![b'a'; size]));
    assert_eq!(handed(&named(4096)), None);
    assert_eq!(handed(&named(4097)), Some(Unusual::Size));
    let fields = |count| request(&[ROW]).with(field(4, b"").repeat(count));
    assert_eq!(handed(&fields(128 - 3)), None);
    assert_eq!(handed(&fields(128 - 2)), Some(Unusual::Size));
    let wide = [field(5, &tensor("other", "BYTES", &[1])), field(7, &[0; 10_000])].concat();
    assert_eq!(handed(&request(&[ROW]).with(wide)), None);
}

#[test]
fn no_tensors_have_no_rows() {
    let found = Tensors::default().find([].into_iter(), &[], true, None, 4);
    assert_eq!(found.map(|found| found.count), Err(Unusual::Tensors));
}

#[test]
fn reasons_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = UNUSUAL.iter().map(|why| why.name()).collect();
    assert_eq!(names.len(), UNUSUAL.len());
    assert_eq!(number(300), [0xac, 2]);
}
