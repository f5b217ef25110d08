// What the AVX2 and the AVX-512 layer share. Included inside the namespace of a layer.

inline int32_t four_codes(const int8_t* p) {
  int32_t codes;
  std::memcpy(&codes, p, sizeof codes);
  return codes;
}
