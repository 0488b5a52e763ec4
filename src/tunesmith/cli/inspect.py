from tunesmith.cli.out import Out


def inspect(
    *data: str,
    format: str | None = None,
    model: str | None = None,
    max_length: int | None = None,
    test: str | None = None,
    sample: int | None = None,
    html: str | None = None,
    fix: str | None = None,
    strict: bool = False,
) -> Out:
    """What is in the data: every fault with its line, token counts, and which text is learnt.

    The first rows are shown as they are learnt from: green, or in [[ ]] where there is no colour. The exit code is 1
    when a row cannot be learnt from; with --fix, when one could not be mended; with --strict, also for a high risk.

    Args:
        data: Files, globs, folders or Hub data sets (hf:user/name:split).
        format: How a row is read: messages, sharegpt, alpaca, completion or text; found from the rows when left out.
        model: Count tokens and render as this model does: Hub id, folder, .gguf file, or bundle:NAME.
        max_length: Tokens an example may have; what a plan would choose when left out.
        test: A file of rows that are held out: those that are also learnt from are told.
        sample: How many rows are tokenized, drawn from all of them; every one when left out.
        html: Write a page that shows all of it to this .html file.
        fix: Write a mended copy to this new .jsonl file; what cannot be mended goes to NAME.rejected.jsonl beside it.
        strict: End with 1 where a risk is high.

    Example:
        $ tunesmith inspect chats.jsonl
        format  messages
        rows    2, of which 1 can be learnt from
        turns   2 a row (user 1, assistant 1)
        tokens  not counted: name a model, for example --model bundle:smollm2-135m-instruct

        chats.jsonl, line 1, as it is learnt from
        user: play some jazz
        assistant: [[{"intent": "PlayMusic"}]]

        error[data/no-assistant]: no assistant turn, so nothing can be learnt
          at   chats.jsonl, line 2, messages
          fix  add the answer, or remove the row
    """
    from tunesmith.cli.inspected import paint
    from tunesmith.errors import Fault, RecipeError
    from tunesmith.verbs import inspect as verb

    if not data:
        raise RecipeError(Fault("cli/no-data", "inspect needs a file of data", "tunesmith inspect DATA.jsonl"))
    found = verb.inspect(
        data,
        format=format,
        model=model,
        max_length=max_length,
        test=test,
        sample=sample,
        html=html,
        fix=fix,
        strict=strict,
    )
    return Out(found.as_json(), lambda to: paint(found, to), 0 if found.ok else 1)
