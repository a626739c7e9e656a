"""`python -m llama_assets.cli`: the same as `llama-assets`."""

from llama_assets.cli import main

if __name__ == "__main__":
    main(prog_name="llama-assets")
