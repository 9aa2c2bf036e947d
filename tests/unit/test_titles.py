"""What a channel is called for people."""

from daemon.app.configuration import titles
from tests.unit.test_reload import TOKYO, settings


def test_a_channel_is_called_by_its_marketplace_and_by_its_own_name_where_that_is_another() -> None:
    found = settings(**TOKYO)
    assert titles(found, "zh") == {"sekorm": "世强", "ymatou": "洋码头", "tokyo": "洋码头 (tokyo)"}
    assert titles(found, "en")["tokyo"] == "Ymatou (tokyo)"
