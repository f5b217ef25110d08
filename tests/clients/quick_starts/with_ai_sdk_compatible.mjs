// The AI SDK with @ai-sdk/openai-compatible.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { KEY, MODEL, URL } from '../given.mjs';
import { featuresOf } from './ai_sdk.mjs';

const provider = createOpenAICompatible({
  name: 'rocmforge',
  baseURL: URL,
  apiKey: KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});

export default featuresOf(provider(MODEL), provider.completionModel(MODEL));
