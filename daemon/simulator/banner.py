"""What `stockrelay simulate` says when it has started."""

from daemon.simulator.settings import SimulatorSettings
from daemon.simulator.ymatou_content import UPDATE_GATEWAY, UPDATE_PATH


def banner(url: str, settings: SimulatorSettings) -> str:
    """Base URLs, the demo credentials and the first control calls, as text for a terminal."""
    sekorm, ymatou = settings.sekorm, settings.ymatou
    return f"""Both partners are simulated at {url}. Nothing leaves this machine; nothing is kept.

Sekorm   base URL    {url}/serviceGate
         account     {sekorm.account}   (parameter {sekorm.account_parameter})
         app secret  {sekorm.app_secret}
         token       {url}/serviceGate/getAccessToken
         stock       {url}/serviceGate/stock/updQuantity

Ymatou   base URL    {url}
         app id      {ymatou.app_id}
         app secret  {ymatou.app_secret}
         auth code   {ymatou.auth_code}
         path        {url}/api/v1/{ymatou.app_id}/{UPDATE_PATH}
         gateway     {url}/apigateway/v1?app_id={ymatou.app_id}&method={UPDATE_GATEWAY}

Look at it and disturb it:
  curl {url}/_sim/state
  curl '{url}/_sim/journal?since=0&limit=20'
  curl {url}/_sim/stats
  curl {url}/_sim/faults --json '{{"kind": "delay", "partner": "ymatou", "seconds": 3, "times": 5}}'
  curl {url}/_sim/faults --json '{{"kind": "reset_after", "probability": 0.1, "seed": 7}}'
  curl -X DELETE {url}/_sim/faults
  curl {url}/_sim/config --json '{{"sekorm": {{"down": true}}}}'
  curl --json '{{}}' {url}/_sim/reset
"""
