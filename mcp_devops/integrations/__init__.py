"""Outside systems, a folder each: settings, client, tools. Not here: what facts mean together."""
