"""The demo report's page: words and looks. `{{name}}` marks where `report` puts what it measured."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A small GPT-2, trained here</title>
<style>
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #636c76; --page: #fdfcfa; --card: #f3f1ec;
  --rule: #dcd8d0; --accent: #d1495b; --mark: #ffe9a8; --mark-ink: #1f2328; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e2dd; --quiet: #9a9891; --page: #1b1c1e;
  --card: #26272a; --rule: #3a3b3f; --accent: #ef7585; --mark: #6b5716; --mark-ink: #fff6da; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 3rem 1.25rem 5rem; background: var(--page);
  color: var(--ink); font: 17px/1.6 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, serif; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: 1.2rem; border-top: 1px solid var(--rule); }
.lead { font-size: 1.12rem; }
.headlines { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; margin: 2rem 0; }
.headlines div { background: var(--card); border-radius: 8px; padding: 1rem 1.1rem; }
.headlines b { display: block; font-size: 1.7rem; line-height: 1.2; }
.headlines span, figcaption, .note, .bars td:last-child, table.facts, .plot { font-family: system-ui,
  -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
.headlines span { font-size: .82rem; line-height: 1.35; display: block; color: var(--quiet); }
.plot { width: 100%; height: auto; margin: 1rem 0 .25rem; }
.note, figcaption { font-size: .85rem; color: var(--quiet); line-height: 1.5; }
table { border-collapse: collapse; width: 100%; }
.bars { margin: 1rem 0; font-size: .95rem; }
.bars th { text-align: left; font-weight: normal; width: 38%; padding: .3rem .75rem .3rem 0; }
.bars i { display: block; height: 1.15rem; border-radius: 3px; background: #8aa4c8; }
.bars .model i { background: var(--accent); }
.bars .model th, .bars .model td:last-child { font-weight: bold; }
.bars td:last-child { width: 4rem; text-align: right; font-variant-numeric: tabular-nums; }
.facts { font-size: .9rem; }
.facts th { text-align: left; vertical-align: top; font-weight: 600; width: 11rem;
  padding: .35rem 1rem .35rem 0; }
.facts td { padding: .35rem 0; overflow-wrap: anywhere; }
.facts tr + tr { border-top: 1px solid var(--rule); }
.pieces { background: var(--card); border-radius: 8px; padding: .9rem 1.1rem; line-height: 2; }
.piece { white-space: pre-wrap; border-radius: 4px; padding: .1em 0; font: .9rem ui-monospace, Menlo,
  "DejaVu Sans Mono", monospace; background: #8aa4c83d; box-decoration-break: clone; }
.piece:nth-child(even) { background: #d1495b33; }
.longest .piece { padding: .1em .35em; margin-right: .2em; background: var(--card); }
figure { margin: 1.4rem 0; }
.sample { white-space: pre-wrap; overflow-wrap: anywhere; margin: .35rem 0 0; padding: .9rem 1.1rem;
  background: var(--card); border-radius: 8px; font-size: .95rem; line-height: 1.5; }
.empty { color: var(--quiet); font-weight: normal; }
mark { background: var(--mark); color: var(--mark-ink); border-radius: 3px; }
@media (max-width: 34rem) { body { padding-top: 1.5rem; font-size: 16px; }
  .headlines { grid-template-columns: 1fr; gap: .6rem; } .facts th { width: 7rem; }
  h1 { font-size: 1.7rem; } }
@media print { body { max-width: none; } figure, .headlines, tr { break-inside: avoid; } }
</style>
</head>
<body>
<h1>A small GPT-2, trained here</h1>
<p class="lead">A few minutes ago this model was random numbers. Since then it has read the documentation that
comes with Python, a few megabytes of English about programming, one word-piece after another, each time
guessing the next piece and being corrected. This page shows how its guesses became better, how good they are
on text it has never seen, and what it says when it is left to go on by itself.</p>
<div class="headlines">{{headlines}}</div>
<p>It is built exactly like OpenAI's GPT-2 of 2019, only far smaller, and has read ten thousand times less.
Expect sentences with the sound of documentation and little sense.</p>

<h2>Learning</h2>
{{loss_curve}}
<p>The <em>loss</em> says how surprised the model is by the next piece of text, in nats. It began as surprised
as someone who knows nothing, and ended at {{loss}}, which is as if it had to choose among {{odds}} equally
likely pieces, out of {{vocab_size}}. The red points are measured on held-out text: documents it is never
trained on. Where they stop falling while the blue line goes on, a model has begun to learn its reading by
heart.</p>
{{rate_and_speed}}
<p class="note">The learning rate, how far each correction moves the numbers, rises quickly and then falls to
nothing, so that the model settles.</p>

<h2>How well does it predict?</h2>
<p>Whoever predicts a text well can also store it in little space. That gives a fair measure across all kinds
of models: <em>bits per byte</em>, how many bits each byte of held-out text would take. Shorter is better.</p>
<table class="bars">{{bars}}</table>
<p class="note">gzip and xz know nothing of English before they start. The fourth bar gives xz the training
text first, as the model had it. The model's {{bits}} count every held-out byte, each predicted from the
half to one context of text before it (windows that overlap by half).</p>

<h2>Words into pieces</h2>
<p>The model reads numbers, not letters. Its vocabulary of {{vocab_size}} pieces was learned from the same
text: beginning with single bytes, the pair that occurs most often became a new piece, again and again. On
held-out text a piece now stands for {{bytes_per_token}} bytes, against 1 for the bytes it began with.</p>
<p class="pieces">{{pieces}}</p>
<p class="note longest">The longest pieces: {{longest}}</p>

<h2>What it says</h2>
<p>The bold words were given; the model went on. <em>Temperature</em> is how daring it is: low, it takes the
likeliest piece and repeats itself; at 1 it draws from exactly what it believes. <mark>Marked</mark> is the
longest stretch that stands word for word in the training text. Short ones are how language works; long ones
are recitation.</p>
{{samples}}

<h2>What it read</h2>
<table class="facts">{{data}}</table>

<h2>To do this again</h2>
<table class="facts">{{circumstances}}</table>
<p class="note">The same command, versions and machine give the same model, to the last bit, if the number of
steps is the same.</p>
<h2>Where the time went</h2>
<table class="facts">{{stages}}</table>
</body>
</html>
"""
