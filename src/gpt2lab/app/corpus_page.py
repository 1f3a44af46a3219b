"""The page about a corpus: words and looks; `{{name}}` is where `app.corpus_report` puts a field."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>
{{css}}.funnel, .sites { font: .88rem/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans",
  sans-serif; }
.funnel { margin: 1.4rem 0; }
.funnel div { margin: .15rem auto; padding: .4rem .7rem; border-radius: 6px; min-width: 16rem;
  background: color-mix(in srgb, var(--train) 38%, transparent); text-align: center; }
.funnel div b { margin-right: .5em; }
.funnel p { margin: .1rem auto .5rem; text-align: center; color: var(--quiet); overflow-wrap: anywhere; }
.funnel p span { white-space: nowrap; margin: 0 .45em; }
.funnel p span b { color: var(--accent); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem;
  margin: .8rem calc(50% - min(50vw - 1.25rem, 33rem)) 1.6rem; }
.cards .sample { font-size: .84rem; line-height: 1.45; max-height: 15rem; overflow: auto; }
figcaption { overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; margin: 2rem 0 .2rem; }
.sites th, .sites td { text-align: right; padding: .25rem 0 .25rem .6rem;
  font-variant-numeric: tabular-nums; }
.sites thead th { font-weight: 600; color: var(--quiet); border-bottom: 1px solid var(--rule); }
.sites .name { text-align: left; padding-left: 0; font-weight: normal; overflow-wrap: anywhere; }
@media print { .cards { margin-inline: 0; } .cards .sample { max-height: none; } }
</style>
</head>
<body>
<h1>{{title}}</h1>
<p class="byline">{{byline}}</p>
<div class="headlines">{{headlines}}</div>
<p>{{summary}}</p>

<h2>What became of the sources</h2>
<p>Every bar is what a step left; under it stands what the step took out, and why. Bars are as wide as the
share of documents that is still there.</p>
{{funnel}}
{{near}}

<h2>What was dropped</h2>
<p>A few of each reason, drawn by a hash of their names: the same ones whenever this page is made.</p>
{{samples}}

<h2>How long documents are</h2>
{{lengths}}
<p class="note">Documents that are left, by the length of their text in UTF-8.</p>
{{languages}}
{{sites}}

<h2>The tokens</h2>
<table class="facts"><tbody>{{tokens}}</tbody></table>

<h2>To do this again</h2>
<pre>{{recipe}}</pre>
<table class="facts"><tbody>{{circumstances}}</tbody></table>
<p class="note"><code>manifest.json</code> beside the shards names every source file and every shard with the
SHA-256 of its bytes.</p>
</body>
</html>
"""
