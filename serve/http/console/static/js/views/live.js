// Live: what each model does now and did in the last ten minutes, and requests as they are routed.

import { get } from "../api.js";
import { setNames } from "../colours.js";
import { count, duration, exactly, plural, share, usd } from "../format.js";
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../html.js";
import { onKey } from "../key.js";
import { ErrorNote, Tile } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";
import { TimePlot } from "../parts/plot.js";
import { Sparkline, thinned } from "../parts/sparkline.js";
import { usePolling } from "../polling.js";
import { ModelTable } from "./live-models.js";
import { Requests } from "./live-requests.js";

const EVERY_S = 2;
const SAVED_EVERY_S = 60;
const MOST_REQUESTS = 200;
const MOST_SERIES = 8;

export function Live({ active }) {
  const [live, setLive] = useState(null);
  const [requests, setRequests] = useState([]);
  const [paused, setPaused] = useState(false);
  const cursor = useRef(null);

  const ask = useCallback(async (signal) => {
    const after = cursor.current === null ? "" : `?after=${encodeURIComponent(cursor.current)}`;
    const reply = await get(`console/live${after}`, signal);
    cursor.current = reply.cursor;
    setNames(reply.models.map(({ name }) => name));
    setLive(reply);
    if (reply.requests.length) setRequests((before) => joined(reply.requests, before));
  }, []);
  // What one key may see is not for the next.
  useEffect(
    () =>
      onKey((what) => {
        if (what !== "changed") return;
        cursor.current = null;
        setLive(null);
        setRequests([]);
      }),
    [],
  );
  const { error, retry } = usePolling(ask, EVERY_S, active && !paused);
  const saved = useSaved(active && live?.smart === true);
  const series = useMemo(() => live && plotted(live.history), [live]);

  return html`
    <div class="view-head">
      <div>
        <h1>Live</h1>
        <p class="lede">${live ? summary(live) : "Asking the routers …"}</p>
      </div>
      <div class="actions">
        <span class="pulse ${error || paused ? "off" : ""}">${paused ? "Paused" : error ? "Not connected" : "Live"}</span>
        <button type="button" aria-pressed=${String(paused)} onClick=${() => setPaused(!paused)}>
          <${Icon} name=${paused ? "play" : "pause"} />${paused ? "Go on" : "Pause"}
        </button>
      </div>
    </div>
    ${error && html`<${ErrorNote} error=${error} retry=${retry} />`}
    ${live
      ? html`
          <${Figures} live=${live} saved=${saved} />
          <div class="two">
            <${TimePlot}
              title="Requests"
              unit="per second, by model"
              times=${live.history.times}
              series=${series.requests}
              stacked=${true}
              format=${count}
            />
            <${TimePlot}
              title="First token"
              unit="median"
              times=${live.history.times}
              series=${series.firstToken}
              format=${duration}
            />
          </div>
          <${ModelTable} models=${live.models} history=${live.history.models} />
          <${Requests} requests=${requests} showsQueries=${live.shows_queries} />
        `
      : !error && html`<${Skeleton} />`}
  `;
}

function summary(live) {
  const how = live.smart ? `smart routing at ${live.performance_requirement}` : `${live.strategy} routing`;
  const whose = live.caller.all_traffic ? "" : `; traffic of the key “${live.caller.name}” only`;
  return `${plural(live.routers, "router")}, ${plural(live.models.length, "model")}, ${how}${whose}`;
}

function Figures({ live, saved }) {
  const now = (field) => total(live.models.map((model) => model.now[field]));
  const past = (field) => thinned(totals(live.history, field));
  const requests = now("requests_per_s");
  const errors = now("errors_per_s");
  return html`<dl class="tiles">
    <${Tile} name="Requests" value=${count(requests)} more="per second"><${Sparkline} values=${past("requests_per_s")} /><//>
    <${Tile} name="Output" value=${count(now("output_tokens_per_s"))} more="tokens per second"><${Sparkline} values=${past("output_tokens_per_s")} /><//>
    <${Tile}
      name="Errors"
      value=${requests ? share(errors / requests) : count(errors)}
      more=${errors ? `${count(errors)} per second` : "none now"}
      tone=${errors ? "bad" : ""}
    ><${Sparkline} values=${past("errors_per_s")} /><//>
    <${Tile} name="Cost" value=${usd(perHour(now("usd_per_s")))} title=${exactly(perHour(now("usd_per_s")))} more="per hour"><${Sparkline} values=${past("usd_per_s")} /><//>
    <${Tile}
      name="Saved"
      value=${share(saved?.share)}
      title=${exactly(saved?.usd)}
      more=${saved ? `${usd(saved.usd)} against the best model` : live.smart ? "not known yet" : "known with smart routing"}
      tone=${saved?.share > 0 ? "good" : ""}
    />
  </dl>`;
}

// What routing has saved; it changes slowly, and not every router knows it.
function useSaved(active) {
  const [saved, setSaved] = useState(null);
  const ask = useCallback(async (signal) => {
    const reply = await get("console/tradeoff", signal);
    setSaved(reply.saved);
  }, []);
  usePolling(ask, SAVED_EVERY_S, active);
  return saved;
}

function joined(fresh, before) {
  const known = new Set(fresh.map(({ id }) => id));
  return [...fresh, ...before.filter(({ id }) => !known.has(id))].slice(0, MOST_REQUESTS);
}

function total(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
}

function totals(history, field) {
  const models = Object.values(history.models);
  return history.times.map((_, n) => total(models.map((model) => model[field][n])));
}

function perHour(perSecond) {
  return perSecond === null ? null : 3600 * perSecond;
}

// The series of the plots: the busiest models each, and the rest together where sums make sense.
function plotted(history) {
  const busiest = Object.keys(history.models).sort((one, other) => busy(other) - busy(one));
  function busy(name) {
    return total(history.models[name].requests_per_s) ?? 0;
  }
  const shown = busiest.slice(0, MOST_SERIES).sort();
  const rest = busiest.slice(MOST_SERIES);
  const of = (field) => shown.map((name) => ({ name, values: history.models[name][field] }));
  const requests = of("requests_per_s");
  if (rest.length) {
    const values = history.times.map((_, n) => total(rest.map((name) => history.models[name].requests_per_s[n])));
    requests.push({ name: plural(rest.length, "other"), values });
  }
  return { requests, firstToken: of("first_token_s_p50") };
}

function Skeleton() {
  return html`<div class="skeleton" aria-hidden="true"><i></i><i></i><i></i></div>`;
}
