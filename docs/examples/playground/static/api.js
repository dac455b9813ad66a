// The server: three addresses, and what is known of tokens.

export async function get(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

export async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? `${path}: ${response.status}`);
  return answer;
}

/** id -> {id, text, special?, bytes?} of every token that has been met. */
export const known = new Map();

export function remember(tokens) {
  for (const token of tokens) known.set(token.id, token);
  return tokens;
}

export async function tokensOf(text) {
  return remember(await post("tokens", { text }));
}

/** Fetch what is not known yet of these token ids. */
export async function know(ids) {
  const missing = [...new Set(ids)].filter((id) => !known.has(id));
  for (let i = 0; i < missing.length; i += 500) {
    remember(await post("tokens", { ids: missing.slice(i, i + 500) }));
  }
}
