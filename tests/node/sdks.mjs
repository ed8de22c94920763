// The vendors' own packages: an answer, a stream, an error, and an earlier response.
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

const baseURL = process.argv[2];
const openai = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ''), apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user', content: 'Why is the sky blue?' }];

const chat = await openai.chat.completions.create({ model: 'mix', messages });
let streamed = '';
for await (const chunk of await openai.chat.completions.create({ model: 'mix', messages, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? '';
}
const completion = await openai.completions.create({ model: 'mix', prompt: 'Why is the sky blue?' });
const response = await openai.responses.create({ model: 'mix', input: 'Why is the sky blue?' });
const again = await openai.responses.retrieve(response.id);
const message = await anthropic.messages.create({ model: 'mix', max_tokens: 100, messages });
const refused = await openai.embeddings.create({ model: 'mix', input: 'x' }).catch((error) => error);
console.log(
  JSON.stringify({
    texts: [
      chat.choices[0].message.content,
      streamed,
      completion.choices[0].text,
      response.output_text,
      again.output_text,
      message.content[0].text,
    ],
    ids: [chat._request_id, message._request_id],
    refused: [refused.status, refused.requestID],
  }),
);
