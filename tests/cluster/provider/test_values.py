from google.protobuf import struct_pb2

from tests.cluster.provider.values import UNKNOWN, has_unknown, joined, mask, plain, struct


def test_what_is_sent_comes_back_the_same() -> None:
    values = {"a": 1, "b": 1.5, "c": True, "d": "x", "e": [1, {"f": []}], "g": {}, "h": UNKNOWN}
    assert plain(struct(values)) == values


def test_a_secret_is_sealed_where_it_is_and_nowhere_else() -> None:
    values = {"spec": {"env": [{"value": "hidden"}], "image": "open"}, "data": {"a": "hidden"}}
    sent = struct(values, {"spec": {"env": True}, "data": {"a": True}})
    assert plain(sent) == values
    assert mask(sent) == {"spec": {"env": True}, "data": {"a": True}}
    assert sent.fields["spec"].struct_value.fields["image"].string_value == "open"
    assert "hidden" not in str(sent.fields["data"].struct_value.fields["a"].string_value)


def test_a_secret_in_a_list_seals_the_whole_list() -> None:
    item = struct({"value": "hidden"}, {"value": True})
    message = struct_pb2.Struct()
    message.fields["env"].list_value.values.add().struct_value.CopyFrom(item)
    assert mask(message) == {"env": True}


def test_masks_join() -> None:
    assert joined({"a": {"b": True}}, {"a": {"c": True}, "d": True}) == {
        "a": {"b": True, "c": True},
        "d": True,
    }
    assert joined({"a": True}, {"a": {"b": True}}) == {"a": True}


def test_unknown_is_found_at_any_depth() -> None:
    assert has_unknown({"a": [{"b": UNKNOWN}]})
    assert not has_unknown({"a": [{"b": "04da6b54"}]})


def test_kubernetes_extensions_of_json_schema_keep_their_dashes() -> None:
    sent = struct({"schema": {"x-kubernetes-preserve-unknown-fields": True}})
    assert list(sent.fields["schema"].struct_value.fields) == ["x_kubernetes_preserve_unknown_fields"]
    assert plain(sent) == {"schema": {"x-kubernetes-preserve-unknown-fields": True}}
