"""Actors that die between any two messages, on a cluster that is played by this file."""

import random
from types import SimpleNamespace

from fewshot.work import actors
from fewshot.work.actors import Actors
from fewshot.work.crew import Died, Finished, Joined, Rows
from fewshot.work.driver import share_out
from tests.fewshot.work.test_driver import done, make_divisions


class Lost(Exception):
    """As Ray's errors: an actor is gone."""


class Ref:
    """What `open` will return."""

    def __init__(self, actor):
        self.actor = actor

    def get(self):
        if self.actor.dead:
            raise Lost("the actor died")
        return Joined(self.actor.worker)


class Stream:
    """What a piece yields, and then its end."""

    def __init__(self, actor, piece):
        self.actor, self.left = actor, [Rows(actor.worker, [piece]), Finished(actor.worker)]

    def __next__(self):
        if self.actor.dead:
            raise Lost("the actor died")
        if not self.left:
            raise StopIteration
        message = self.left.pop(0)
        return SimpleNamespace(get=lambda: message)


class Actor:
    def __init__(self, worker):
        self.worker, self.dead = worker, False
        self.open = SimpleNamespace(remote=lambda order: Ref(self))
        stream = SimpleNamespace(remote=lambda piece: Stream(self, piece))
        self.work = SimpleNamespace(options=lambda num_returns: stream)


class Cluster:
    """Ray, as far as `Actors` calls it: answers in any order, and actors die at any time."""

    ObjectRef = Ref
    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self, seed, deadly):
        self.draw, self.deadly, self.deaths = random.Random(seed), deadly, 0

    def cluster_resources(self):
        return {"CPU": self.draw.randint(1, 4)}

    def put(self, thing):
        return thing

    def remote(self, kind):
        return SimpleNamespace(options=lambda **needs: SimpleNamespace(remote=Actor))

    def wait(self, awaited, num_returns, timeout):
        one = self.draw.choice(awaited)
        if self.draw.random() < self.deadly:
            one.actor.dead, self.deaths = True, self.deaths + 1
        return [one], []

    def get(self, what):
        return what.get()

    def kill(self, actor):
        actor.dead = True

    def shutdown(self):
        pass


def test_whatever_an_actor_was_at_when_it_died(monkeypatch):
    """Also where the end of its last piece was still to be heard: it dies once."""
    monkeypatch.setattr(actors, "LOOK_AGAIN", 0.0)
    expected = done(piece for division in make_divisions() for piece in division)
    deaths = 0
    for seed in range(60):
        cluster = Cluster(seed, deadly=0.05)
        monkeypatch.setattr(actors, "connect", lambda address, cluster=cluster: cluster)
        crew = Actors(SimpleNamespace(device="cpu", threads=1), "auto", None, 1.0)
        found = [rows[0] for _, rows in share_out(make_divisions(), crew) if type(rows) is not Died]
        assert set(done(found)) == set(expected)
        deaths += cluster.deaths
    assert deaths > 60
