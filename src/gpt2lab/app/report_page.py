"""The demo report's page: words and looks; `{{name}}` is where `app.report` puts a field."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A small GPT-2, trained here</title>
<style>
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #62676e; --page: #fdfcfa; --card: #f4f2ed;
  --rule: #e0dcd4; --train: #6f8fbf; --accent: #c4513c; --mark: #ffe49a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e2dd; --quiet: #a3a199; --page: #1a1b1d;
  --card: #242528; --rule: #38393d; --train: #8babdc; --accent: #ee806b; --mark: #655314; } }
* { box-sizing: border-box; }
{{css}}body { margin: 0 auto; max-width: 46rem; padding: 3.5rem 1.25rem 5rem; background: var(--page);
  color: var(--ink); font: 17px/1.6 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, serif; }
h1 { font-size: 2.2rem; line-height: 1.15; margin: 0 0 .4rem; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 .6rem; padding-top: 1.3rem; border-top: 1px solid var(--rule);
  break-after: avoid; }
.headlines span, figcaption, .note, .byline, .bars, .facts, .plot { font-family: system-ui, -apple-system,
  "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
.note, figcaption, .byline, .quiet { font-size: .85rem; color: var(--quiet); line-height: 1.5; }
.lead { font-size: 1.12rem; }
.headlines { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; margin: 1.8rem 0; }
.headlines b { display: block; font-size: 1.55rem; line-height: 1.25; }
.headlines span { font-size: .82rem; line-height: 1.4; display: block; color: var(--quiet); }
table { border-collapse: collapse; width: 100%; }
.facts { font-size: .88rem; line-height: 1.5; }
.facts th, .facts td { text-align: left; vertical-align: top; padding: .4rem 0; overflow-wrap: anywhere; }
.facts th { font-weight: 600; width: 8rem; padding-right: 1rem; }
.facts tr + tr { border-top: 1px solid var(--rule); }
pre { font: .86rem/1.6 ui-monospace, Menlo, "DejaVu Sans Mono", monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: .8rem 0; }
.pieces, .longest { line-height: 2; }
.longest .piece { padding: .15em .4em; color: var(--ink); background: var(--card); white-space: nowrap; }
.samples { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 1rem;
  margin: 1.2rem calc(50% - min(50vw - 1.25rem, 33rem)); }
figure, .headlines div, .pieces, pre { background: var(--card); border-radius: 8px; padding: .8rem 1.1rem; }
figure { margin: 0; display: flex; flex-direction: column; line-height: 1.5; }
.sample { flex: 1; white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0 .6rem; font-size: .92rem; }
figcaption b { color: var(--ink); margin-right: .4em; }
mark { background: var(--mark); color: inherit; border-radius: 3px; }
@media (max-width: 40rem) { body { padding-top: 1.8rem; font-size: 16px; } h1 { font-size: 1.75rem; }
  .facts th { width: 6rem; } .headlines { grid-template-columns: 1fr; gap: .6rem; } }
@media (max-width: 46rem) { .samples { grid-auto-flow: row; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; background: none; }
  .samples { margin-inline: 0; } * { print-color-adjust: exact; }
  figure, tr, .headlines, .plot, .pieces, pre { break-inside: avoid; } }
</style>
</head>
<body>
<h1>A small GPT-2, trained here</h1>
<p class="byline">{{written}} · {{machine}}</p>
<p class="lead">A few minutes before this page was written, the model it shows was nothing but random
numbers. Then it read the documentation that comes with Python, a few megabytes of English about programming,
piece by piece, guessing each next piece and being corrected. Below you see how the guesses became better,
how good they are on text it never saw, and what it writes when left to itself.</p>
<div class="headlines">{{headlines}}</div>
<p>It is built exactly like the GPT-2 of 2019, but it is about {{times_smaller}} times smaller than the
smallest of those and has read about {{times_less}} times less. It knows no facts and cannot hold a thought.
What it has picked up is the sound of documentation: spelling, grammar, which words like each other’s
company. That this much comes from nothing but guessing is what there is to see here.</p>

<h2>Learning</h2>
{{loss_curve}}
<p>The <em>loss</em> says how surprised the model is by the next piece of text. Knowing nothing, it would be
{{first_loss}} nats, any of {{vocab_size}} pieces being as likely as another. At the end, over all held-out
text, it is <b>{{loss}}</b>: as if it had to pick among {{odds}} equally likely pieces. <em>Held-out</em>
text is never trained on. While both lines fall together the model learns what is true of all such text;
where the held-out line stops and the other goes on, it begins to learn its reading by heart. (The red points
are a quicker measurement, on part of that text and with less of it before each piece. The dotted lines are
explained below.)</p>
{{rate_and_speed}}
<p class="note">The learning rate, how far each correction moves the numbers, rises quickly and then falls,
so that the model settles. A dip in speed means that the computer was busy with something else.</p>
{{skipped}}

<h2>How well does it predict?</h2>
<p>Who predicts a text well can store it in little space: what was expected anyway need not be written down.
So a language model can be measured like a compression program, in <em>bits per byte</em>: how many bits each
byte of held-out text would take. Uncompressed it is 8, and fewer is better.</p>
{{bits_bars}}
<p>{{verdict}}</p>
<p class="note">gzip and xz begin every text knowing nothing of English, and the model has read some. The
third bar is fairer: xz compresses the training text and the held-out text together, and only what the
held-out text adds is counted. The model’s {{bits}} counts every held-out byte, each predicted from between
half a context and one context of text before it.</p>

<h2>Words into pieces</h2>
<p>The model does not see letters. It sees pieces, <em>tokens</em>, out of a vocabulary of {{vocab_size}}
that was learned from the same text: beginning with single bytes, the two neighbours that met most often
became a new piece, again and again. At the start a piece stood for 1 byte; now it stands for
<b>{{bytes_per_token}} bytes</b> of held-out text on average, so there are that many times fewer pieces to
read. A held-out sentence, as the model sees it:</p>
<p class="pieces">{{pieces}}</p>
<p class="note longest">The longest pieces, with a dot for each space: {{longest}}</p>

<h2>What it says</h2>
<p>The bold words were given; the model went on. <em>Temperature</em> is how daring it is: low, it prefers
the likeliest piece and soon repeats itself; at 1 it draws from exactly what it believes, oddities included.
<mark>Marked</mark> is the longest stretch of each that stands word for word in the training text. Short ones
are how language works; a long one would be recitation. (“↵ × 4” stands for four line breaks in a row.)</p>
{{samples}}

<h2>What it read</h2>
<table class="facts"><tbody>{{data}}</tbody></table>

<h2>To do this again</h2>
<pre>{{command}}</pre>
<table class="facts"><tbody>{{circumstances}}</tbody></table>
<p class="note">With <code>--steps {{steps}}</code> in the command, the same versions on the same kind of
machine give the same model again, to the last bit.</p>

<h2>Where the time went</h2>
{{stages}}
<p class="note">Stages that a stopped demo had already done are not done again, and take no time here.</p>
</body>
</html>
"""
