import pytest

from bandlimit.config import registry
from bandlimit.errors import UserError


def test_addresses_are_those_of_the_entry(tmp_path):
    path = tmp_path / "registry.csv"
    path.write_text("name,urls,sha256\nsome,https://a/x https://b/x,1\nother,,2\n")
    assert registry.urls(path, "some") == ["https://a/x", "https://b/x"]
    assert registry.urls(path, "other") == []
    with pytest.raises(UserError, match="no entry 'somme'; .*mean 'some'"):
        registry.urls(path, "somme")
    with pytest.raises(UserError, match=r"nowhere.csv.*can't be read"):
        registry.urls(tmp_path / "nowhere.csv", "some")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,urls\na,x\na,y\n", "two rows named 'a'"),
        ("name,urls\na\n", "got 'a' with fewer"),
        ("name,urls\na,x,y\n", "got 'a' with more"),
        ("name,urls\n,x\n", "needs a 'name'"),
    ],
)
def test_a_row_that_does_not_fit_is_told(tmp_path, text, said):
    path = tmp_path / "registry.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        registry.read(path)
