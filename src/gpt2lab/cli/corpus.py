"""`gpt2lab corpus`: from links, pages and texts to clean documents and token shards, and what came of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from gpt2lab.base.errors import UserError

if TYPE_CHECKING:
    from gpt2lab.corpus.recipe import CorpusRecipe

_DESCRIPTION = """From raw text and pages to clean documents and token shards.

usage:
  gpt2lab corpus fetch LINKS ... --out FOLDER             the pages behind links, as WARC files
  gpt2lab corpus build RECIPE SOURCES ... --out FOLDER    documents and shards, or what of them is missing
  gpt2lab corpus inspect FOLDER                           what became of the sources, and a page with pictures

Every field of a recipe can be given as an option; `gpt2lab corpus build RECIPE --help` lists them.

examples:
  gpt2lab corpus build books texts/ --out corpora/books
  gpt2lab corpus fetch RS_2016-*.zst --out pages --contact you@example.com
  gpt2lab corpus build webtext pages --out corpora/web --memory 4GB
  gpt2lab corpus build fineweb 's3://bucket/crawl/*.warc.gz' --out corpora/crawl
  gpt2lab corpus inspect corpora/web --html web.html
  gpt2lab train laptop-10m --data.path corpora/books/shards"""

_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@dataclass(frozen=True)
class BuildOptions:
    """What to do with the recipe."""

    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="SOURCES ...")] = ()
    """files of text, pages or documents, folders that hold some, or URLs of web archives (s3://..., also
    with *)"""
    out: Path | None = None
    """the corpus's folder; corpora/RECIPE where not given"""
    workers: int = 0
    """processes that work at the same time; 0 takes every core"""
    memory: str = ""
    """what all of them may hold together, for example 2GB; half of what is free where not given"""
    on: Literal["processes", "daft", "ray"] = "processes"
    """where the work is done: processes of this machine, the same handed out by Daft, or a Ray cluster
    (RAY_ADDRESS names one that runs; its machines share the folders) through Daft"""


def main(arguments: list[str]) -> int:
    """Run `gpt2lab corpus`; returns the exit code."""
    verbs = {"fetch": _fetch, "build": build, "inspect": _inspect}
    if not arguments or arguments[0] in ("-h", "--help"):
        from gpt2lab.base.shipped_recipes import recipe_names

        print(f"{_DESCRIPTION}\n\nrecipes: {', '.join(recipe_names('corpus'))}")
        return 0 if arguments else 2
    if arguments[0] not in verbs:
        raise UserError(
            f"there is no command {arguments[0]!r} of `gpt2lab corpus`",
            fix=f"The commands: {', '.join(verbs)}",
        )
    return verbs[arguments[0]](arguments[1:])


def _fetch(arguments: list[str]) -> int:
    from gpt2lab.cli.corpus_fetch import main as fetch

    return fetch(arguments)


def _inspect(arguments: list[str]) -> int:
    tyro.cli(inspect, args=arguments, prog="gpt2lab corpus inspect")
    return 0


def build(arguments: list[str]) -> int:
    """`gpt2lab corpus build`."""
    from gpt2lab.base.extras import import_extra
    from gpt2lab.corpus.recipe import CorpusRecipe, load_corpus_recipe

    if not arguments or arguments[0].startswith("-"):
        return main(["--help"]) if {"-h", "--help"} & set(arguments) else main([])
    name, rest = arguments[0], arguments[1:]

    @dataclass(frozen=True)
    class Command:
        options: Annotated[BuildOptions, arg(name="")]
        recipe: Annotated[CorpusRecipe, arg(name="")]

    shipped = load_corpus_recipe(name)
    command = tyro.cli(
        Command,
        args=rest,
        prog=f"gpt2lab corpus build {name}",
        description=f"{shipped.summary.strip()}\n\nEvery field of the recipe is an option.",
        default=Command(BuildOptions(), replace(shipped, summary="")),
    )
    recipe = replace(command.recipe, summary=command.recipe.summary or shipped.summary)
    import_extra("pyarrow", "corpus")
    _build(recipe, command.options, command.options.out or Path("corpora") / Path(name).stem)
    return 0


def _build(recipe: "CorpusRecipe", options: BuildOptions, out: Path) -> None:
    from gpt2lab.base.machine import available_cores, available_main_memory
    from gpt2lab.corpus.funnel import as_rows, funnel_text
    from gpt2lab.corpus.pipeline import SHARDS_FOLDER, build_corpus
    from gpt2lab.corpus.workers import Processes, share_memory
    from gpt2lab.data.manifest import load_manifest

    memory = parse_size(options.memory) if options.memory else available_main_memory() // 2
    if options.workers < 0:
        raise UserError("a number of workers is not negative", where="--workers", fix="0 takes every core")
    workers, per_worker = share_memory(options.workers or available_cores(), memory)
    if options.on == "processes":
        with Processes(workers) as runner:
            manifest = build_corpus(recipe, options.sources, out, runner=runner, memory=per_worker)
    else:
        from gpt2lab.corpus.cluster import Cluster

        cluster = Cluster(options.on, workers)
        manifest = build_corpus(recipe, options.sources, out, runner=cluster, memory=per_worker)
    print(funnel_text(as_rows(manifest["funnel"]), manifest["splits"]))
    shards = load_manifest(out / SHARDS_FOLDER)
    assert shards is not None
    vocabulary = f"--model.vocab-size {shards.vocab_size}"
    print(f"\nTrain on it: gpt2lab train laptop-10m --data.path {out / SHARDS_FOLDER} {vocabulary}")


def parse_size(text: str) -> int:
    """Bytes as people write them: ``"2GB"``, ``"500 MB"``.

    Raises:
        UserError: it is no size.
    """
    number, unit = text.strip()[:-2].strip(), text.strip()[-2:].lower()
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError(f"{text!r} is no size", where="--memory", fix="Write it like 500MB or 2GB") from error


def inspect(
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")],
    html: Annotated[Path | None, arg(metavar="FILE")] = None,
    domains: Annotated[Path | None, arg(metavar="FILE")] = None,
) -> None:
    """What became of a corpus's sources, in the terminal and as a page with pictures and samples.

    Args:
        folder: the corpus's folder
        html: where to write the page; report.html in the folder where not given
        domains: OpenAI's domains.txt (github.com/openai/gpt-2), to show WebText's sites beside the corpus's
    """
    from gpt2lab.app.corpus_report import write_corpus_report
    from gpt2lab.base.extras import import_extra

    import_extra("pyarrow", "corpus")
    from gpt2lab.corpus.funnel import funnel_text
    from gpt2lab.corpus.statistics import gather_facts, read_site_list

    published = read_site_list(domains) if domains else []
    facts = gather_facts(folder)
    page = html or folder / "report.html"
    write_corpus_report(facts, page, title=f"Corpus {folder.resolve().name}", published_sites=published)
    print(funnel_text(facts.funnel, facts.manifest["splits"]))
    print(f"\nPictures, samples and sites: {page}")
