from pathlib import Path
from typing import Any

from tunesmith.cli.changes import Changes
from tunesmith.cli.out import Out


def tune(
    recipe: Path, /, *, set_: Changes = (), into: Path | None = None, resume: bool = False, fresh: bool = False
) -> Out:
    """A tuned model from a recipe.

    The plan is said first. Ctrl-C saves a checkpoint; --resume goes on from it to the same model that a run in one go
    gives.

    Args:
        recipe: The recipe's file.
        set_: Change a value of the recipe, as KEY=VALUE; may be repeated.
        into: The folder of the run; for voice.yaml it is runs/voice when left out.
        resume: Go on from the last checkpoint in the folder.
        fresh: Begin again, even if the folder holds a run.

    Example:
        $ tunesmith tune tiny.yaml --into runs/tiny
        run    runs/tiny
        model  runs/tiny/model
        next   tunesmith export runs/tiny --to gguf,ollama,web
    """
    import time

    from tunesmith.artifact import MANIFEST
    from tunesmith.recipe import Recipe
    from tunesmith.verbs.tune import tune as make

    clock, began = time.monotonic(), time.time()
    run = make(Recipe.read(recipe, set_), into=into, resume=resume, fresh=fresh)
    is_new = (run.folder / MANIFEST).stat().st_mtime >= began
    stage = {"stage": "tune", "state": "done" if is_new else "kept", "seconds": round(time.monotonic() - clock, 1)}
    tree: dict[str, Any] = {"run": str(run.folder), "stages": [stage], "exports": {}, "checks": None}
    lines = (
        f"run    {run.folder}\nmodel  {run.folder / 'model'}\nnext   tunesmith export {run.folder} --to gguf,ollama,web"
    )
    return Out(tree, lambda to: to.print(lines, soft_wrap=True))
