"""What `stockrelay init` proposes: pure functions from a database's catalogue to a configuration file."""

from daemon.core.proposal.candidates import rank
from daemon.core.proposal.document import Channel, write_document
from daemon.core.proposal.recipes import RECIPES, Choice, Recipe, adapt
from daemon.core.proposal.values import CatalogTable, Column, ForeignKey, Proposal, Watched

__all__ = [
    "RECIPES",
    "CatalogTable",
    "Channel",
    "Choice",
    "Column",
    "ForeignKey",
    "Proposal",
    "Recipe",
    "Watched",
    "adapt",
    "rank",
    "write_document",
]
