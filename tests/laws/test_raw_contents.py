"""Raw contents are the same values however many of them stand together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.tensors import FLOATING_DATATYPES, decode_raw

MANY = 100
"""Times eight bytes: more than are read one by one."""


@pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
@given(raw=st.binary(min_size=8, max_size=8))
def test_few_values_are_read_as_many_are(datatype, raw):
    few, many = np.tile(decode_raw(raw, datatype), MANY), decode_raw(MANY * raw, datatype)
    assert few.dtype == many.dtype == np.float64
    np.testing.assert_array_equal(few, many)
    numbers = ~np.isnan(many)
    assert few[numbers].tobytes() == many[numbers].tobytes()
