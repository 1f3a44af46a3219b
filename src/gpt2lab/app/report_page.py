"""The demo report's page: words and looks; `{{name}}` is where `app.report` puts a field."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A small GPT-2, trained here</title>
<style>
{{css}}.pieces, .longest { line-height: 2; }
.longest .piece { padding: .15em .4em; color: var(--ink); background: var(--card); white-space: nowrap; }
.samples { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 1rem;
  margin: 1.2rem calc(50% - min(50vw - 1.25rem, 33rem)); }
.pieces { background: var(--card); border-radius: 8px; padding: .8rem 1.1rem; }
mark { background: var(--mark); color: inherit; border-radius: 3px; }
@media (max-width: 46rem) { .samples { grid-auto-flow: row; } }
@media print { .samples { margin-inline: 0; } .pieces { break-inside: avoid; } }
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
{{health}}
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
