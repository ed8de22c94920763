"""Packages that are missing: one error names them all, and how to install them."""

import pytest

from stairstream.backends.extras import require, require_all
from stairstream.core.errors import MissingExtra


def test_all_missing_packages_of_all_extras_are_in_one_line() -> None:
    with pytest.raises(MissingExtra) as caught:
        require_all("eval on torch", {"torch": ("not_there", "json", "nor_this"), "eval": ("neither_that",)})
    assert str(caught.value) == (
        "eval on torch needs not_there, nor_this and neither_that; "
        "install them with: pip install 'stairstream[torch,eval]'"
    )


def test_only_the_extra_that_is_missing_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"^x needs not_there; install it with: pip install 'stairstream\[eval\]'$"):
        require_all("x", {"torch": ("json",), "eval": ("not_there",)})
    require("x", ("json",), "torch")
