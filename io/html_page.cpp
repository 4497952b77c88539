#include "io/html_page.h"

#include <fmt/format.h>

namespace sonde {
namespace {

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--paper:#fcfcfb;--card:#fff;--ink:#1c1e21;--soft:#5d646d;--rule:#e2e4e8;--grid:#eceef1;--mark:#f3f5f8;
--c0:#0b63c4;--c1:#c8430f;--c2:#17803f;--c3:#8b35d6;--c4:#a86a00;--c5:#0c7f93;--c6:#c2246e;--c7:#5b6470}
@media(prefers-color-scheme:dark){:root{--paper:#14161a;--card:#1b1e23;--ink:#e7e9ec;--soft:#9aa3ad;--rule:#31363e;--grid:#272b32;--mark:#22262d;
--c0:#6db3ff;--c1:#ff9466;--c2:#63d08d;--c3:#c79bff;--c4:#e9b44c;--c5:#56cbdd;--c6:#ff8abb;--c7:#a9b2bd}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:2.6rem 0 .3rem;padding-top:1.4rem;border-top:1px solid var(--rule)}
p{margin:.5rem 0;max-width:74ch}
.lead{font-size:1.08rem}
.soft,figcaption,.facts dt,caption{color:var(--soft)}
code{font:.88em ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;background:var(--mark);border-radius:4px;padding:.08em .3em;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:.5rem 1.6rem;margin:1.2rem 0 0}
.facts dt{font-size:.8rem}.facts dd{margin:0;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:18px;margin:1rem 0 .6rem}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 12px 4px}
figcaption{font-size:.9rem;font-weight:600;padding-left:2px}
svg{display:block;width:100%;height:auto;font-size:13px}
svg text{fill:var(--soft)}
.grid{stroke:var(--grid)}.axis{font-size:13px}
.chance{stroke:var(--soft);stroke-dasharray:2 4}.chance-name{font-size:11.5px}
.line{fill:none;stroke:var(--c);stroke-width:2.2;stroke-linejoin:round}
.dot{fill:var(--c)}.band{fill:var(--c);opacity:.16}.many .band{opacity:.06}.many .dot{r:1.8px}
.mark{fill:var(--card);stroke:var(--c);stroke-width:2.2;stroke-linejoin:round}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}.c6{--c:var(--c6)}.c7{--c:var(--c7)}
.c1 .line{stroke-dasharray:7 3}.c2 .line{stroke-dasharray:2 3}.c3 .line{stroke-dasharray:9 3 2 3}.c5 .line{stroke-dasharray:7 3}.c6 .line{stroke-dasharray:2 3}.c7 .line{stroke-dasharray:9 3 2 3}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;font-size:.9rem;padding:0;margin:.2rem 0 1rem;list-style:none}
.swatch{display:inline-block;width:22px;height:0;border-top:3px solid var(--c);vertical-align:.28em;margin-right:.45em}
.c1 .swatch,.c5 .swatch{border-top-style:dashed}.c2 .swatch,.c6 .swatch{border-top-style:dotted}
.legend svg{display:inline-block;width:15px;height:15px;vertical-align:-.15em;margin-right:.35em;--c:var(--soft)}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:10px;margin:.7rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.34rem .75rem;text-align:right;white-space:nowrap;border-top:1px solid var(--grid)}
th{color:var(--soft);font-weight:600;border-top:0}
td:first-child,th:first-child{text-align:left}
tr.best td{font-weight:650;background:var(--mark)}
summary{cursor:pointer;padding:.45rem 0;font-size:.95rem}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--rule);font-size:.88rem;color:var(--soft)}
@media(max-width:600px){main{padding:20px 14px 48px}h1{font-size:1.35rem}figure{padding:10px 4px 0}figcaption{padding-left:8px}th,td{padding:.34rem .5rem}}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#bbb;--grid:#ddd;--mark:#f2f2f2;--c0:#0b63c4;--c1:#c8430f;--c2:#17803f;--c3:#8b35d6;--c4:#a86a00;--c5:#0c7f93;--c6:#c2246e;--c7:#5b6470}
body{font-size:10.5pt}main{max-width:none;padding:0}figure,tr{break-inside:avoid}.wide{overflow:visible}h2{break-after:avoid}
details::details-content{content-visibility:visible;block-size:auto}.charts{grid-template-columns:1fr 1fr}}
)";

}  // namespace

std::string html_head(const std::string& title) {
  return fmt::format(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">"
      "<title>{0}</title><style>{1}</style></head><body><main><h1>{0}</h1>",
      escape_html(title), kStyle);
}

std::string html_facts(const std::vector<std::pair<std::string, std::string>>& facts) {
  std::string out = "<dl class=\"facts\">";
  for (const auto& [key, value] : facts)
    out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", escape_html(key), escape_html(value));
  return out + "</dl>";
}

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace sonde
