// The openai package for JavaScript.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { CITIES, ENOUGH, KEY, MODEL, QUESTION, URL, WEATHER, getWeather } from '../given.mjs';

const client = new OpenAI({ baseURL: URL, apiKey: KEY });
const Weather = z.object({ city: z.enum(CITIES) });
const Answer = z.object({ city: z.enum(CITIES), is_capital: z.boolean() });
const question = [{ role: 'user', content: QUESTION }];
const weather = [{ role: 'user', content: WEATHER }];
const tool = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather in a city.',
    parameters: z.toJSONSchema(Weather),
  },
};

export default {
  async chat() {
    const completion = await client.chat.completions.create({
      model: MODEL,
      messages: [{ role: 'developer', content: 'You are a helpful assistant.' }, ...question],
      max_completion_tokens: ENOUGH,
    });
    assert.ok(completion.choices[0].message.content);
    assert.ok(completion.usage.completion_tokens > 0);
  },

  async stream() {
    const chunks = await client.chat.completions.create({
      model: MODEL,
      messages: question,
      max_completion_tokens: ENOUGH,
      stream: true,
    });
    let text = '';
    for await (const chunk of chunks) text += chunk.choices[0]?.delta?.content ?? '';
    assert.ok(text);
  },

  async stream_helper() {
    const stream = client.chat.completions.stream({
      model: MODEL,
      messages: question,
      max_completion_tokens: ENOUGH,
    });
    let text = '';
    stream.on('content', (delta) => (text += delta));
    assert.equal((await stream.finalChatCompletion()).choices[0].message.content, text);
  },

  async tools() {
    const completion = await client.chat.completions.create({
      model: MODEL,
      messages: weather,
      tools: [tool],
      tool_choice: 'required',
      parallel_tool_calls: false,
    });
    const [call] = completion.choices[0].message.tool_calls;
    assert.equal(call.function.name, 'get_weather');
    assert.ok(CITIES.includes(JSON.parse(call.function.arguments).city));
  },

  async tools_streamed() {
    const stream = client.chat.completions.stream({
      model: MODEL,
      messages: weather,
      tools: [tool],
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
    });
    const [call] = (await stream.finalMessage()).tool_calls;
    assert.ok(CITIES.includes(JSON.parse(call.function.arguments).city));
  },

  async tool_parsed() {
    const completion = await client.chat.completions.parse({
      model: MODEL,
      messages: weather,
      tools: [zodFunction({ name: 'get_weather', parameters: Weather })],
      tool_choice: 'required',
      parallel_tool_calls: false,
    });
    const [call] = completion.choices[0].message.tool_calls;
    assert.ok(CITIES.includes(call.function.parsed_arguments.city));
  },

  async run_tools() {
    const asked = [];
    const runner = client.chat.completions.runTools({
      model: MODEL,
      messages: weather,
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
      tools: [
        zodFunction({
          name: 'get_weather',
          parameters: Weather,
          function: (given) => {
            asked.push(given.city);
            return getWeather(given);
          },
        }),
      ],
    });
    await runner.done();
    assert.ok(CITIES.includes(asked[0]));
    assert.equal(await runner.finalFunctionToolCallResult(), getWeather({ city: asked[0] }));
  },

  // The model may call or not. runTools fails where a limit of tokens ends the answer.
  async run_tools_of_its_own_accord() {
    const runner = client.chat.completions.runTools({
      model: MODEL,
      messages: question,
      temperature: 0,
      stop: ['.'],
      parallel_tool_calls: false,
      tools: [
        { type: 'function', function: { ...tool.function, parse: JSON.parse, function: getWeather } },
      ],
    });
    await runner.done();
    assert.ok(runner.allChatCompletions().length > 0);
  },

  async structured_output() {
    const completion = await client.chat.completions.parse({
      model: MODEL,
      messages: question,
      response_format: zodResponseFormat(Answer, 'answer'),
    });
    Answer.parse(completion.choices[0].message.parsed);
  },

  async completions() {
    const asked = { model: MODEL, prompt: 'The capital of France is', max_tokens: 8 };
    assert.ok((await client.completions.create(asked)).choices[0].text);
  },

  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.deepEqual(names, [MODEL]);
    assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
  },

  async errors() {
    const asked = { model: 'another-model', messages: question };
    await assert.rejects(client.chat.completions.create(asked), OpenAI.NotFoundError);
  },
};
