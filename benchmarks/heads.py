"""How fast heads are on stored features, beside the loop that their paper's code runs.

    python benchmarks/heads.py [--episodes 600] [--direct 6] [--heads sur url] [--device cpu]

Plans are those of a source of 20 classes of 600 images under md-v1; features have 512 dimensions,
are not negative, lie in feature files (eight of them for heads over several extractors), and are
read from there in each measured run. The direct loop takes one episode after the other, in
float32, class by class, with broadcast cosines and autograd; it runs on the first few episodes,
whose mean time is scaled up. Both columns are seconds of CPU time, of all threads together, which
other work on the machine disturbs less, and of this run; predictions are compared on the same
episodes.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from episodes import EpisodePlan, Split
from episodes.sampling import EpisodeSampler
from episodes.spec import SourceSpec
from fewshot.evaluation import CPU_BYTES, head_generator
from fewshot.feature_file import FeatureFile
from fewshot.heads import Episode, build_head
from fewshot.heads.batch import Size, batches, score_batch

CLASSES, IMAGES, DIM, EXTRACTORS = 20, 600, 512, 8
SPREAD = 3.0
"""Of an image about the mean of its class, which is drawn with spread 1."""


def make_plans(count: int) -> list[EpisodePlan]:
    """Episodes of a source of 20 test classes."""
    none = range(0, 0)
    splits = {Split.TRAIN: none, Split.VALID: none, Split.TEST: range(CLASSES)}
    names = tuple(f"class {number}" for number in range(CLASSES))
    spec = SourceSpec("made_up", Path(), names, (IMAGES,) * CLASSES, splits)
    sampler = EpisodeSampler(spec, "test")
    return [sampler.plan(0, index) for index in range(count)]


def make_files() -> list[FeatureFile]:
    """Features of every image by each extractor; a row per image."""
    files, labels = [], np.repeat(np.arange(CLASSES), IMAGES)
    for number in range(EXTRACTORS):
        draw = np.random.Generator(np.random.PCG64([7, number]))
        means = draw.standard_normal((CLASSES, DIM), dtype=np.float32)
        noise = draw.standard_normal((len(labels), DIM), dtype=np.float32)
        file = FeatureFile(None, {"extractor": number}, len(labels), DIM, "float32")
        file.write(np.arange(len(labels)), np.maximum(means[labels] + SPREAD * noise, 0))
        files.append(file)
    return files


class Stored:
    """Episodes as they are read from the files of features."""

    def __init__(self, files: list[FeatureFile], device: torch.device) -> None:
        self.files, self.device = files, device

    def read(self, plan: EpisodePlan, head: str) -> Episode:
        """One episode, on the device."""

        def features(class_ids: np.ndarray, images: np.ndarray) -> list[Tensor]:
            places = class_ids * IMAGES + images
            return [torch.from_numpy(file.read(places)).to(self.device) for file in self.files]

        return Episode(
            features(plan.support_class_ids, plan.support_images),
            torch.tensor(plan.support_labels, device=self.device),
            plan.way,
            features(plan.query_class_ids, plan.query_images),
            head_generator(plan, head),
        )


# ---- the loops -------------------------------------------------------------------------------


def means_of(features: Tensor, labels: Tensor, way: int) -> Tensor:
    return torch.stack([features[labels == k].mean(dim=0) for k in range(way)])


def cosine(items: Tensor, others: Tensor) -> Tensor:
    return 10 * functional.cosine_similarity(items[:, None], others[None], dim=-1, eps=1e-30)


def prototypical_loop(episode: Episode) -> Tensor:
    means = means_of(episode.support[0], episode.labels, episode.way)
    return -(episode.query[0][:, None] - means[None]).square().sum(dim=2)


def ncc_loop(episode: Episode) -> Tensor:
    return cosine(episode.query[0], means_of(episode.support[0], episode.labels, episode.way))


def knn_loop(episode: Episode) -> Tensor:
    similar = cosine(episode.query[0], episode.support[0])
    columns = [similar[:, episode.labels == k].amax(dim=1) for k in range(episode.way)]
    return torch.stack(columns, dim=1)


def mahalanobis_loop(episode: Episode) -> Tensor:
    support, query = episode.support[0], episode.query[0]

    def covariance(items: Tensor) -> Tensor:
        rows = items.T if len(items) > 1 else items
        away = rows - rows.mean(dim=1, keepdim=True)
        return away @ away.T / (rows.shape[1] - 1)

    whole, columns = covariance(support), []
    identity = torch.eye(support.shape[1], device=support.device)
    for k in range(episode.way):
        items = support[episode.labels == k]
        share = len(items) / (len(items) + 1)
        inverse = torch.inverse(share * covariance(items) + (1 - share) * whole + identity)
        away = query - items.mean(dim=0)
        columns.append(-(away @ inverse * away).sum(dim=1))
    return torch.stack(columns, dim=1)


def sur_loop(episode: Episode) -> Tensor:
    support, query = (
        torch.stack([functional.normalize(part) for part in group], dim=1)
        for group in (episode.support, episode.query)
    )
    logit = torch.zeros(support.shape[1], device=support.device, requires_grad=True)
    adadelta = torch.optim.Adadelta([logit], lr=3000 / episode.way)

    def joined(items: Tensor) -> Tensor:
        return (logit.sigmoid()[:, None] * items).flatten(1)

    def scores(items: Tensor) -> Tensor:
        return cosine(joined(items), means_of(joined(support), episode.labels, episode.way))

    for _ in range(40):
        adadelta.zero_grad()
        functional.cross_entropy(scores(support), episode.labels).backward()
        adadelta.step()
    return scores(query).detach()


def url_loop(episode: Episode) -> Tensor:
    support, query = episode.support[0], episode.query[0]
    matrix = torch.eye(support.shape[1], device=support.device, requires_grad=True)
    adadelta = torch.optim.Adadelta([matrix], lr=0.1)

    def scores(items: Tensor) -> Tensor:
        aligned = functional.linear(support, matrix)
        prototypes = means_of(aligned, episode.labels, episode.way)
        return cosine(functional.linear(items, matrix), prototypes)

    for _ in range(40):
        adadelta.zero_grad()
        functional.cross_entropy(scores(support), episode.labels).backward()
        adadelta.step()
    return scores(query).detach()


LOOPS: dict[str, Callable[[Episode], Tensor]] = {
    "prototypical": prototypical_loop,
    "ncc_cosine": ncc_loop,
    "knn": knn_loop,
    "mahalanobis": mahalanobis_loop,
    "sur": sur_loop,
    "url": url_loop,
}


# ---- measuring -------------------------------------------------------------------------------


def ours(stored: Stored, name: str, plans: list[EpisodePlan]) -> Iterator[tuple[int, Tensor]]:
    """Scores by number of the episode, as an evaluation computes them."""
    head = build_head(name)
    dims = (DIM,) * len(stored.files)
    sizes = [Size(len(p.support_labels), len(p.query_labels), p.way, dims) for p in plans]
    limit = CPU_BYTES if stored.device.type == "cpu" else 2**32
    for batch in batches(head, sizes, limit):
        episodes = [stored.read(plans[position], name) for position in batch]
        yield from zip(batch, score_batch(head, episodes), strict=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--direct", type=int, default=6, help="episodes of the direct loop")
    parser.add_argument("--heads", nargs="+", choices=LOOPS, default=list(LOOPS))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.direct < 1:
        parser.error("--direct: at least one episode is needed to compare with")
    plans, device = make_plans(options.episodes), torch.device(options.device)
    files = make_files()
    support = np.mean([len(plan.support_labels) for plan in plans])
    way = np.mean([plan.way for plan in plans])
    print(f"{len(plans)} episodes, {way:.1f} ways, {support:.0f} support images on average,")
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, {device}\n")
    titles = f"{'head':<13} {'CPU s':>8} {'direct loop':>12} {'ratio':>7}"
    print(f"{titles}  same predictions, accuracies")
    for name in options.heads:
        chosen = files if name == "sur" else files[:1]
        stored = Stored(chosen, device)
        started = time.process_time()
        scores = dict(ours(stored, name, plans))
        seconds = time.process_time() - started
        started = time.process_time()
        loops = [LOOPS[name](stored.read(plan, name)) for plan in plans[: options.direct]]
        direct = (time.process_time() - started) / max(1, len(loops)) * len(plans)
        same, right = [], []
        for number, theirs in enumerate(loops):
            truth = torch.tensor(plans[number].query_labels)
            predicted = [s.argmax(dim=1).cpu() for s in (scores[number], theirs)]
            same.append((predicted[0] == predicted[1]).double().mean().item())
            right.append([(one == truth).double().mean().item() for one in predicted])
        mean = np.mean(right, axis=0)
        print(
            f"{name:<13} {seconds:>8.2f} {direct:>12.1f} {direct / seconds:>7.1f}  "
            f"{np.mean(same):.4f}, {mean[0]:.4f} and {mean[1]:.4f}"
        )


if __name__ == "__main__":
    main()
