"""The operators' page: server-rendered, live where scripts run, readable where they do not."""
