"""Values that no range allows, for whatever takes values from outside."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.helpers.hostile_specs import HUGE

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=50),
    st.sampled_from(
        [HUGE, -HUGE, 2**63, -(2**63) - 1, 2**64, 1e308, float("inf"), float("nan"), "\0", "\ud800",
         "1" * 5000, "1e999", "9" * 400 + "GiB", "128MiB", 1, 0, "lines", "sum", "adaptive"]
    ),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(
            st.one_of(st.sampled_from(("memory", "fuel", "first_item", "n_items")), st.text()),
            inner, max_size=5,
        ),
    ),
    max_leaves=10,
)  # fmt: skip
HOSTILE = settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
