"""Who answered is counted, shown, and can be asked for."""

from __future__ import annotations

from typing import Any


def test_a_mix_of_servers_is_shown(shop: Any, serve: Any) -> None:
    """Status, its JSON and the report say who served a role where it was more than one."""
    shop.write(serve(providers=("Alpha", "Beta")).url)
    assert shop.collect().code == 0
    served = shop.nexa("status", "r", "--json").said["served"]["teacher"]
    assert sum(served.values()) == 40 and {name.split("/")[0] for name in served} == {
        *("Alpha", "Beta")
    }
    shown = shop.nexa("status", "r").out
    assert "Served teacher: " in shown and "Alpha/chaos" in shown
    report = (shop.run().path / "report.html").read_text()
    assert "served teacher" in report and "Beta/chaos" in report


def test_one_server_is_no_mix(shop: Any, serve: Any) -> None:
    """Where one answered everything, the screen says nothing of it."""
    shop.write(serve().url, rows=8)
    assert shop.collect().code == 0
    assert "Served" not in shop.nexa("status", "r").out


def test_a_gate_may_ask_who_served(shop: Any, serve: Any) -> None:
    """`expect` is a part of the server's name: about half of the answers came from elsewhere."""
    rule = {"metric": {"served_by_mix": {"expect": "alpha"}}, "below": 0.9}
    gate = {"gate": "served", "hard": [rule], "reviewers": []}
    pilot = {"rows": "all", "max_iterations": 1}
    url = serve(providers=("Alpha", "Beta")).url
    shop.write(url, 60, gate=gate, pilot=pilot, scale=None)
    done = shop.collect()
    assert done.code == 0, done.out
    check = done.said["iterations"][0]["checks"][0]
    assert check["metric"].startswith("served_by_mix") and check["n"] == 60
    assert 10 < check["k"] < 50 and check["verdict"] == "PASS"
