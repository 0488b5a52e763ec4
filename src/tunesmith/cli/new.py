from tunesmith.cli.out import Out


def new(name: str, /, *, for_: str | None = None, base: str | None = None, data: str | None = None) -> Out:
    """A commented recipe to start from.

    Writes NAME.yaml here. A file that exists is never overwritten. With --for the rows are read, and every value is
    filled in from them, the base and this machine, each with its reason.

    Args:
        name: Name of the recipe, with or without .yaml.
        for_: The training rows, which are read.
        base: Hub id, folder, .gguf file, or bundle:NAME; the built-in small model when left out.
        data: The training rows, which are named and not read; the rest is as it is for most.

    Example:
        $ tunesmith new voice --data chats.jsonl
        wrote voice.yaml
        next: tunesmith inspect chats.jsonl, tunesmith plan voice.yaml, tunesmith run voice.yaml
    """
    from tunesmith.recipe import Recipe
    from tunesmith.verbs.new import new as write

    path = write(name, base=base, data=data, for_=for_)
    recipe = Recipe.read(path)
    train = recipe.data.names[0]
    following = [f"tunesmith inspect {train}", f"tunesmith plan {path}", f"tunesmith run {path}"]
    lines = f"wrote {path}\nnext: {', '.join(following)}"
    return Out({"recipe": str(path), "next": following}, lambda to: to.print(lines, soft_wrap=True))
