"""What runs: each service is `async def run(self, stop)`, and none imports another."""
