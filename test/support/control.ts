/** The mutations and queries that suites with a real server ask, answers as data. */
import { query } from './test-server.js';

export interface Answer {
  __typename: string;
  id?: string;
  state?: string;
  reason?: string | null;
  code?: string;
  message?: string;
  chunks?: number;
  failure?: { code: string; message: string } | null;
}

const SESSION = `__typename ... on Session { id state reason failure { code message } } ... on Error { code message }`;
const RECEIPT = `__typename ... on SwitchReceipt { id } ... on Error { code message }`;

export async function create(url: string, input: object): Promise<Answer> {
  const document = `mutation ($input: CreateSessionInput!) { answer: createSession(input: $input) { ${SESSION} } }`;
  return (await query<{ answer: Answer }>(url, document, { input })).answer;
}

export async function switchPrompt(url: string, id: string, prompt: string): Promise<Answer> {
  const document = `mutation ($id: ID!, $prompt: String!) { answer: switchPrompt(sessionId: $id, prompt: $prompt) { ${RECEIPT} } }`;
  return (await query<{ answer: Answer }>(url, document, { id, prompt })).answer;
}

export async function control(url: string, name: 'pause' | 'resume' | 'stop', id: string): Promise<Answer> {
  const document = `mutation ($id: ID!) { answer: ${name}Session(sessionId: $id) { ${SESSION} } }`;
  return (await query<{ answer: Answer }>(url, document, { id })).answer;
}

export async function sessionOf(url: string, id: string): Promise<Answer> {
  const document = `query ($id: ID!) { answer: session(id: $id) { ${SESSION} } }`;
  return (await query<{ answer: Answer }>(url, document, { id })).answer;
}
