import json

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.base.extras import import_extra


def test_a_module_that_is_there_is_given() -> None:
    assert import_extra("json", "corpus") is json


def test_a_missing_package_is_named_with_its_remedy() -> None:
    with pytest.raises(UserError) as caught:
        import_extra("no_such_package.part", "corpus")
    assert caught.value.where == "no_such_package.part"
    assert caught.value.fix == "Run `pip install 'gpt2lab[corpus]'`"
