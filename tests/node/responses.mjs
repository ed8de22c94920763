// The AI SDK's default model speaks Responses: a second turn names the items of the first.
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, streamText } from 'ai';

const openai = createOpenAI({ baseURL: process.argv[2], apiKey: 'none' });
const first = await generateText({ model: openai('mix'), prompt: 'Why is the sky blue?' });
const messages = [
  { role: 'user', content: 'Why is the sky blue?' },
  ...first.response.messages,
  { role: 'user', content: 'And at night?' },
];
const second = streamText({ model: openai('mix'), messages });
let text = '';
for await (const part of second.textStream) text += part;
const { input: items } = (await second.request).body;
console.log(JSON.stringify({ first: first.text, second: text, kinds: items.map((item) => item.type ?? item.role) }));
