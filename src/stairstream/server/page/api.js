// Requests to this server. The key is a field of this object and nothing else: no storage, no cookie, no address.

/** An answer that is an error: `message` is one line for people. */
export class ApiFailure extends Error {
  constructor(status, message, retryAfterS = null, param = null) {
    super(message);
    this.status = status;
    this.param = param;
    this.retryAfterS = retryAfterS;
  }
}

/** The server can't be reached, or the connection was lost. */
export class Unreachable extends Error {}

export class Api {
  /** `askKey(problem)` resolves to a key, or null when the person has none. */
  constructor(askKey) {
    this.askKey = askKey;
    this.key = null;
  }

  /** The response, with an asked-for key where the server wants one; throws ApiFailure or Unreachable. */
  async fetch(path, init = {}) {
    for (;;) {
      const key = this.key;
      const response = await this.send(path, init);
      if (response.ok) return response;
      const failure = await failureOf(response);
      if (failure.status !== 401) throw failure;
      if (this.key === key) {
        const given = await this.askKey(key === null ? "" : failure.message);
        if (given === null) throw failure;
        this.key = given;
      }
    }
  }

  async send(path, init) {
    const headers = { ...init.headers };
    if (this.key !== null) headers.authorization = `Bearer ${this.key}`;
    try {
      return await fetch(path, { ...init, headers, credentials: "omit", cache: "no-store", redirect: "error" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Unreachable("The server can't be reached.");
    }
  }

  /** The pipelines, and whether past runs are kept. */
  async models() {
    const { data, stairstream } = await (await this.fetch("/v1/models")).json();
    return { models: data, hasHistory: stairstream?.history === true };
  }

  /** One model: a pipeline, or one with a policy after its name. */
  async model(id) {
    return (await this.fetch(`/v1/models/${encodeURIComponent(id)}`)).json();
  }

  /** Starts a run; the response's body is its events. */
  async start(body, signal) {
    return this.fetch("/v1/runs", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
  }

  /** The events of a run after the one with that id. */
  async attach(runId, lastId, signal) {
    const headers = lastId === "" ? {} : { "last-event-id": lastId };
    return this.fetch(`/v1/runs/${encodeURIComponent(runId)}/events`, { headers, signal });
  }

  /** How a run stands, with what it cost; null where the server has forgotten it. */
  async describe(runId) {
    try {
      return await (await this.fetch(`/v1/runs/${encodeURIComponent(runId)}`)).json();
    } catch {
      return null; // only its cost is lost
    }
  }

  /** A page of past runs, after the cursor of another page. */
  async pastRuns(after) {
    return (await this.fetch(`/v1/history${after === "" ? "" : `?after=${encodeURIComponent(after)}`}`)).json();
  }

  async pastRun(runId) {
    return (await this.fetch(`/v1/history/${encodeURIComponent(runId)}`)).json();
  }

  async pastFile(runId, format) {
    return (await this.fetch(`/v1/history/${encodeURIComponent(runId)}?format=${format}`)).blob();
  }

  /** Deletes a past run, or without an id all of them. */
  async forget(runId = null) {
    await this.fetch(`/v1/history${runId === null ? "" : `/${encodeURIComponent(runId)}`}`, { method: "DELETE" });
  }

  /** Ends a run, without waiting for it. Also sent while the page closes. */
  cancel(runId) {
    const init = { method: "DELETE", keepalive: true };
    this.send(`/v1/runs/${encodeURIComponent(runId)}`, init).catch(() => {});
  }
}

async function failureOf(response) {
  let message = "";
  let param = null;
  try {
    ({ message, param } = (await response.json()).error);
  } catch {
    // not our shape: a proxy in between, perhaps
  }
  const retryAfterS = parseFloat(response.headers.get("retry-after") ?? "");
  return new ApiFailure(
    response.status,
    message || `The server answered ${response.status}.`,
    Number.isFinite(retryAfterS) ? retryAfterS : null,
    param,
  );
}
