"""llama-assets: from a Hub revision to a verdict, on one shared GPU. The rooms are listed in docs/layout.md."""
