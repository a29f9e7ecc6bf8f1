from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.wandb_server import KEY
from tests.wandb_server import WandbServer as Double
from vqvae_dist.wandb_server import NO_STEP, ServerError, WandbServer, find_server, last_step, within


def test_last_step_is_the_greatest_in_summary_and_newest_rows() -> None:
    tail = json.dumps([json.dumps({"global_step": 7}), json.dumps({"x": 1})])
    assert last_step({"summaryMetrics": '{"global_step": 5}', "historyTail": tail}) == 7
    assert last_step({"summaryMetrics": '{"global_step": 9}', "historyTail": tail}) == 9
    assert last_step({"summaryMetrics": None, "historyTail": None}) == NO_STEP
    assert last_step({}) == NO_STEP


def test_server_that_answers_knows_no_new_run() -> None:
    with Double() as server:
        assert WandbServer(server.url, KEY).last_step(entity="", project="p", run_id="new") == NO_STEP
        assert WandbServer(server.url, KEY).default_entity() == "lab"


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        ("stopped", "can't be reached"),
        ("hanging", "no answer|can't be reached"),
        ("refusing", "key"),
        ("broken", "500"),
    ],
)
def test_trouble_is_named_within_seconds(trouble: str, text: str) -> None:
    began = time.monotonic()
    with Double() as server:
        match trouble:
            case "stopped":
                server.stop()
            case "hanging":
                server.hang.set()
            case "broken":
                server.status = 500
        key = "f" * 40 if trouble == "refusing" else KEY
        with pytest.raises(ServerError, match=text) as caught:
            WandbServer(server.url, key).last_step(entity="", project="p", run_id="new")
        server.hang.clear()
    assert key not in str(caught.value)
    assert time.monotonic() - began < 6


def test_work_is_not_waited_for_longer_than_said() -> None:
    with pytest.raises(ServerError, match="no answer"):
        within(0.05, lambda: time.sleep(5))
    assert within(5, lambda: 3) == 3
    nothing: dict[str, int] = {}
    with pytest.raises(KeyError):
        within(5, lambda: nothing["x"])


def test_key_comes_from_the_environment_or_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ServerError, match="no key"):
        find_server("https://wandb.example.org")
    logins = {"wandb.example.org": "secret", "127.0.0.1:8080": "ported", "api.wandb.ai": "cloud"}
    lines = (f"machine {host} login user password {key}\n" for host, key in logins.items())
    (tmp_path / "netrc").write_text("".join(lines))
    assert find_server("http://127.0.0.1:8080").key == "ported"
    assert find_server("https://api.forge.coreweave.com").key == "cloud"
    server = find_server("https://wandb.example.org/")
    assert (server.url, server.key) == ("https://wandb.example.org", "secret")
    assert "secret" not in repr(server)
    monkeypatch.setenv("WANDB_API_KEY", "other")
    assert find_server("https://wandb.example.org").key == "other"
