"""JSON documents with one thing in them changed to what it never is, for tests that draw."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["", "../../up", "a/b", "\n", "<script>alert(1)</script>", "$(touch canary)", 10**400, -1, "9" * 30]
    ),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["a", "value", "step", "name"]), st.integers(), max_size=2),
)
"""Any JSON value, and those that something may be wrongly done with."""

TEXTS = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [b"", b"[]", b"3", b"null", b"{", b"[" * 200_000, b'{"a": ' + b"9" * 6000 + b"}", b"\xff\xfe{}", b"NaN"]
    ),
)
"""Files that hold no such document at all."""


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """The document with one value, at any depth, replaced or taken out."""
    document = copy.deepcopy(document)
    parent, key = document, None
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        if not keys:
            return document
        key = draw(st.sampled_from(keys))
        child = parent[key]
        if not isinstance(child, dict | list) or draw(st.booleans()):
            break
        parent = child
    if isinstance(parent, dict) and draw(st.integers(0, 3)) == 0:
        del parent[key]
    else:
        parent[key] = draw(VALUES)
    return document


def damaged(document: Any) -> st.SearchStrategy[bytes]:
    """The bytes of a document with something wrong, or of none."""
    return st.one_of(changed(document).map(lambda value: json.dumps(value).encode()), TEXTS)
