"""`python -m mcp_devops` is `mcp-devops`."""

from mcp_devops.cli.main import main

main()
