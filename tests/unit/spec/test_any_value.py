"""Whatever is put in, out comes a specification or a SpecError, never another exception."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.spec import EstateSpec, SpecError, validate

# Names and texts that the specification knows, so that the search gets below the first level.
_WORDS = [
    *("platform", "registry", "endpoints", "variants", "traffic", "shadow", "scaling", "model", "runtime"),
    *("pin_header", "timeout_ms", "retries", "variant", "percent", "min", "max", "uri", "seed", "command"),
    *("timeout_s", "local", "bundled", "blue", "green", "models:/a/1", "models:/a@", "s3:/", "30s", "host"),
]
_names = st.sampled_from(_WORDS) | st.text(max_size=8)
_plain = st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | _names
_values = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names | st.integers(), inner, max_size=4),
    max_leaves=12,
)
_scaling = st.fixed_dictionaries({}, optional={"min": _plain | st.integers(1, 4), "max": st.integers(0, 5)})
_endpoint = st.fixed_dictionaries(
    {"variants": st.dictionaries(_names, st.fixed_dictionaries({"model": _names | _plain}), max_size=3)},
    optional={
        "traffic": st.dictionaries(_names, st.integers(-1, 101) | _plain, max_size=3) | _plain,
        "shadow": st.fixed_dictionaries({"variant": _names}, optional={"percent": _plain}) | _values,
        "scaling": _scaling | _values,
        "pin_header": _plain,
        "timeout_ms": _plain,
        "retries": _plain,
    },
)
_estate = st.fixed_dictionaries(
    {"platform": st.just("local") | _plain},
    optional={
        "registry": _values | st.just({}),
        "endpoints": st.dictionaries(_names, _endpoint | _values, max_size=3) | _values,
    },
)


# The machine is shared: how long an example takes says nothing.
_unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _outcome(value: Any) -> EstateSpec | SpecError:
    try:
        return validate(EstateSpec, value)
    except SpecError as error:
        return error


def _check(value: Any) -> None:
    found = _outcome(value)
    if isinstance(found, SpecError):
        assert found.problems
        assert str(found).encode()
        for _, message in found.problems:
            assert message
            assert message.isprintable()
            assert "Input should" not in message, "pydantic's words"
        return
    for endpoint in found.endpoints.values():
        assert sum(endpoint.shares.values()) == 100
        assert all(endpoint.replicas(name) >= 1 for name in endpoint.variants)
    # What was accepted can be written down and read again.
    assert validate(EstateSpec, found.model_dump(mode="json")) == found


@_unhurried
@given(_values)
def test_any_value(value: Any) -> None:
    _check(value)


@_unhurried
@given(_estate)
def test_any_value_in_the_shape_of_an_estate(value: Any) -> None:
    _check(value)
