"""Reads what Prometheus would read."""

from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """One scrape: the type of each metric, and its samples by name and labels."""

    types: dict[str, str]
    samples: dict[str, dict[Labels, float]] = field(repr=False)

    def value(self, name: str, **labels: str) -> float | None:
        """Return the one sample that has these labels, or None; other labels of it do not matter."""
        wanted = labels.items()
        found = [v for having, v in self.samples.get(name, {}).items() if wanted <= dict(having).items()]
        assert len(found) < 2, f"{name} has more than one sample with {labels}"
        return found[0] if found else None

    def labels(self, metric: str) -> set[str]:
        """Return the names of a metric's labels, a histogram's bucket left out."""
        names = [metric, *(f"{metric}_{end}" for end in ("bucket", "sum", "count"))]
        return {key for name in names for labels in self.samples.get(name, {}) for key, _ in labels} - {"le"}


def parse(text: str) -> Scrape:
    """Take a scrape apart. Raises ValueError where it is none."""
    types: dict[str, str] = {}
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        # The parser takes the ending off; in the text format it belongs to the name.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        types[name] = family.type
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return Scrape(types, samples)
