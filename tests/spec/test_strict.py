"""Tables into records: what is told of a table that is not there, or is none."""

from __future__ import annotations

import pytest

from refsample.errors import SpecError
from refsample.spec.provider import Failure
from refsample.spec.strict import from_table


@pytest.mark.parametrize(("table", "said"), [(None, "file [a.b] is missing"), (3, "file [a.b]: must be a table")])
def test_no_table(table: object, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        from_table(Failure, table, "file [a.b]")
    assert str(caught.value) == said
