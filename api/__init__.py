"""The faces of the lakehouse: thin, over the same calls. Now the command line; REST, sharing and web pages come later."""
