"""Two promoters through a server that keeps nobody out: their requests in hundreds of orders, and cut off anywhere.

A fake server takes one request at a time, in an order drawn from a seed; `time.sleep` counts as a request, so whoever
waits gives way.
"""

import random
import threading
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from advalign.errors import CheckFailed
from advalign.tracking.registry import aliases
from advalign.tracking.registry.aliases import INTENT, Intent, move, recover, settle

NAME, FIRST = "m", 1
NOBODY = 2**22  # above the largest number that Linux gives a process


class CutOff(BaseException):
    """A promoter's process ends."""


class Server:
    """Registered model `m` with versions 1, 2, 3; requests of the promoters are let in one at a time."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.aliases, self.tags = {"champion": FIRST}, {}
        self.log, self.waiting, self.alive = [], {}, set()
        self.turn = threading.Condition()
        self.dies_at = {}

    def request(self, what):
        who = threading.current_thread().name
        if who not in self.alive:
            return  # the test itself
        with self.turn:
            self.waiting[who] = what
            self.turn.notify_all()
            self.turn.wait_for(lambda: self.next == who)
            del self.waiting[who]
            self.next = None
            self.log.append((who, what))
            if self.dies_at.get(who) == sum(one == who for one, _ in self.log):
                raise CutOff

    next = None

    def run(self, **promoters):
        """Let promoters run to their ends, each of whose requests waits for its turn; what each came to."""
        results = {}

        def guarded(who, work):
            try:
                work()
                results[who] = "won"
            except CheckFailed:
                results[who] = "lost"
            except CutOff:
                results[who] = "cut off"
            finally:
                with self.turn:
                    self.alive.discard(who)
                    self.turn.notify_all()

        self.alive = set(promoters)
        threads = [threading.Thread(target=guarded, args=item, name=item[0]) for item in promoters.items()]
        for thread in threads:
            thread.start()
        while True:
            with self.turn:
                self.turn.wait_for(lambda: self.next is None and set(self.waiting) == self.alive)
                if not self.alive:
                    break
                self.next = self.random.choice(sorted(self.waiting))
                self.turn.notify_all()
        for thread in threads:
            thread.join()
        return results

    def get_registered_model(self, name):
        self.request("look")
        return SimpleNamespace(name=name, aliases=dict(self.aliases), tags=dict(self.tags))

    def set_registered_model_tag(self, name, key, value):
        self.request("announce")
        self.tags[key] = value

    def delete_registered_model_tag(self, name, key):
        self.request("settle")
        if key not in self.tags:
            raise MlflowException("gone", RESOURCE_DOES_NOT_EXIST)
        del self.tags[key]

    def set_registered_model_alias(self, name, alias, version):
        self.request(f"set {alias}")
        self.aliases[alias] = int(version)

    def delete_registered_model_alias(self, name, alias):
        self.request(f"delete {alias}")
        self.aliases.pop(alias, None)


@pytest.fixture
def served(monkeypatch):
    def make(seed):
        server = Server(seed)
        monkeypatch.setattr(aliases.time, "sleep", lambda seconds: server.request("sleep"))
        return server, SimpleNamespace(client=server)

    return make


def intent(target, holder=FIRST, **changes):
    values = {"decision": "0", "outcome": "promoted", "alias": "champion", "target": target, "holder": holder}
    return Intent(**{**values, "next_previous": holder, **changes})


def promoter(store, target):
    """Both have judged against version 1 before either moves."""

    def work():
        mine = intent(target, process=NOBODY + target)
        move(store, NAME, mine)
        settle(store, NAME, mine)

    return work


def overtaken(log, who):
    """Whether the other began and ended between this one's look and its write, which no request can notice."""
    mine = [index for index, (one, _) in enumerate(log) if one == who]
    write = next((index for index in mine if log[index][1] == "set champion"), None)
    if write is None:
        return False
    look = max(index for index in mine if index < write)
    between = [what for one, what in log[look:write] if one != who]
    return "set champion" in between


@pytest.mark.parametrize("seeds", [range(start, start + 100) for start in range(0, 300, 100)], ids=str)
def test_of_two_at_once_one_wins_and_holds_the_alias(served, seeds):
    seen = set()
    for seed in seeds:
        server, store = served(seed)
        results = server.run(two=promoter(store, 2), three=promoter(store, 3))
        winners = sorted(who for who, result in results.items() if result == "won")
        seen.add(tuple(winners))
        champion = {1: None, 2: "two", 3: "three"}[server.aliases["champion"]]
        assert INTENT not in server.tags, (seed, server.log)
        if len(winners) == 2:
            assert any(overtaken(server.log, who) for who in winners), (seed, server.log)
            assert champion in winners
        else:
            assert ([champion] if champion else []) == winners, (seed, server.log)
            assert server.aliases.get("previous") == (FIRST if winners else None)
    assert {("two",), ("three",)} <= seen


@pytest.mark.parametrize("seeds", [range(start, start + 100) for start in range(0, 300, 100)], ids=str)
def test_whoever_is_cut_off_leaves_something_that_can_be_mended(served, seeds):
    for seed in seeds:
        server, store = served(seed)
        server.dies_at = {"two": random.Random(seed).randint(1, 8)}
        results = server.run(two=promoter(store, 2), three=promoter(store, 3))
        before = server.aliases["champion"]
        completed = mend(store)
        assert INTENT not in server.tags, (seed, server.log)
        assert server.aliases["champion"] == before, (seed, server.log)  # nobody's finished work is undone
        if results["three"] == "won" and not any(overtaken(server.log, who) for who in ("two", "three")):
            assert before == 3 or completed == [2], (seed, server.log)
        if before != FIRST:
            assert server.aliases["previous"] == FIRST, (seed, server.log)


def mend(store):
    """What the next command does; targets of what it completed."""
    completed = []
    recover(store, NAME, lambda found: completed.append(found.target), lambda found: None)
    return completed


def test_somebody_at_work_is_not_taken_for_cut_off(served):
    server, store = served(0)
    server.tags[INTENT] = intent(2, process=1).model_dump_json()  # process 1 always lives
    with pytest.raises(CheckFailed, match="is being moved to version 2 by process 1"):
        recover(store, NAME, print, print)
    server.tags[INTENT] = intent(2, process=1, at=0.0).model_dump_json()
    assert "undid" in recover(store, NAME, lambda found: None, lambda found: None)


def test_an_intent_that_cannot_be_read_is_said_in_one_line(served):
    server, store = served(0)
    server.tags[INTENT] = '{"decision": 1}'
    with pytest.raises(CheckFailed, match=r"its tag advalign\.intent cannot be read"):
        recover(store, NAME, print, print)


def test_an_alias_that_was_moved_since_stays_where_it_is(served):
    server, store = served(0)
    server.aliases = {"champion": 3, "previous": 2}
    server.tags[INTENT] = intent(2, process=NOBODY).model_dump_json()
    recover(store, NAME, lambda found: None, lambda found: None)
    assert server.aliases == {"champion": 3, "previous": 2}
