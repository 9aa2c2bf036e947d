"""What `stockrelay simulate` says when it has started."""

from daemon.simulator.marketplaces import MARKETPLACES
from daemon.simulator.shops import SimulatorSettings


def banner(url: str, settings: SimulatorSettings) -> str:
    """Base URLs, the demo credentials and the first control calls, as text for a terminal."""
    shops = [MARKETPLACES[shop.marketplace].banner(url, name, shop) for name, shop in settings.shops.items()]
    name = next(iter(settings.shops))
    newline = "\n"
    return f"""The marketplaces are simulated at {url}. Nothing leaves this machine; nothing is kept.

{newline.join(shops)}
Look at it and disturb it:
  curl {url}/_sim/state
  curl '{url}/_sim/journal?since=0&limit=20'
  curl {url}/_sim/stats
  curl {url}/_sim/faults --json '{{"kind": "delay", "shop": "{name}", "seconds": 3, "times": 5}}'
  curl {url}/_sim/faults --json '{{"kind": "reset_after", "probability": 0.1, "seed": 7}}'
  curl -X DELETE {url}/_sim/faults
  curl {url}/_sim/config --json '{{"shops": {{"{name}": {{"down": true}}}}}}'
  curl --json '{{}}' {url}/_sim/reset
"""
