"""The looks that all our pages share: colours for day and night, type, tables, cards; phones and paper."""

STYLE = """\
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #62676e; --page: #fdfcfa; --card: #f4f2ed;
  --rule: #e0dcd4; --train: #6f8fbf; --accent: #c4513c; --mark: #ffe49a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e2dd; --quiet: #a3a199; --page: #1a1b1d;
  --card: #242528; --rule: #38393d; --train: #8babdc; --accent: #ee806b; --mark: #655314; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 3.5rem 1.25rem 5rem; background: var(--page);
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
figure, .headlines div, pre { background: var(--card); border-radius: 8px; padding: .8rem 1.1rem; }
figure { margin: 0; display: flex; flex-direction: column; line-height: 1.5; }
.sample { flex: 1; white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0 .6rem; font-size: .92rem; }
figcaption b { color: var(--ink); margin-right: .4em; }
@media (max-width: 40rem) { body { padding-top: 1.8rem; font-size: 16px; } h1 { font-size: 1.75rem; }
  .facts th { width: 6rem; } .headlines { grid-template-columns: 1fr; gap: .6rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; background: none; }
  * { print-color-adjust: exact; } figure, tr, .headlines, .plot, pre { break-inside: avoid; } }
"""
"""What stands in a page's style element, before its own."""
