#include "glassformer/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "temporary.hpp"

using namespace glassformer;

namespace {

std::string file_bytes(const std::string& header, const std::string& data) {
  const std::uint64_t n = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &n, 8);
  return bytes + header + data;
}

Expected<SafetensorsFile> parse(const std::string& bytes) { return SafetensorsFile::parse("F", std::as_bytes(std::span(bytes))); }

// The error, or "" when the file was taken.
std::string error_of(const std::string& header, const std::string& data = {}) {
  const std::string bytes = file_bytes(header, data);
  const auto file = parse(bytes);
  if (file) return "";
  CHECK(file.error().starts_with("F: "));
  CHECK(file.error().find('\n') == std::string::npos);
  return file.error();
}
bool mentions(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets, const std::string& name = "a") {
  return "{\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
}

}  // namespace

TEST_CASE("what is written is read: types, shapes, metadata, transposition, zeros") {
  TemporaryDirectory dir;
  const std::vector<float> f = {1.0f, -2.5f, 0x1p-24f, 4, 5, 6};
  const std::vector<double> d = {0.1, -1e300, 3};
  const std::vector<std::int64_t> i = {-7, 1ll << 40};
  const std::vector<NamedTensor> tensors = {{"half", Dtype::F16, {2, 3}, f.data(), false},
                                            {"turned", Dtype::F32, {2, 3}, f.data(), true},  // from [3, 2]
                                            {"double", Dtype::F64, {3}, d.data(), false},
                                            {"zeros", Dtype::F32, {2}, static_cast<const float*>(nullptr), false},
                                            {"empty", Dtype::F32, {0, 7}, f.data(), false},
                                            {"scalar", Dtype::BF16, {}, f.data() + 1, false},
                                            {"whole", Dtype::I64, {2}, reinterpret_cast<const std::byte*>(i.data()), false}};
  REQUIRE(write_safetensors(dir / "a", tensors, {{"format", "pt"}, {"näme", "\"quoted\"\n"}}));
  const std::string bytes = slurp(dir / "a");
  std::uint64_t n = 0;
  std::memcpy(&n, bytes.data(), 8);
  CHECK((8 + n) % 8 == 0);

  const auto file = SafetensorsFile::open(dir / "a");
  REQUIRE_MESSAGE(file, file.error());
  CHECK(file->tensors().size() == tensors.size());
  CHECK(file->metadata() == Metadata{{"format", "pt"}, {"näme", "\"quoted\"\n"}});
  for (const NamedTensor& t : tensors) {
    const auto entry = file->expect(t.name, t.shape);
    REQUIRE_MESSAGE(entry, entry.error());
    CHECK((*entry)->dtype == t.dtype);
  }
  std::vector<float> back(6);
  REQUIRE(file->read<float>(*file->find("half"), back));
  CHECK(back == f);
  REQUIRE(file->read<float>(*file->find("turned"), back));
  CHECK(back == std::vector<float>{1.0f, 0x1p-24f, 5, -2.5f, 4, 6});
  std::vector<double> doubles(3);
  REQUIRE(file->read<double>(*file->find("double"), doubles));
  CHECK(doubles == d);
  back.resize(2);
  REQUIRE(file->read<float>(*file->find("zeros"), back));
  CHECK(back == std::vector<float>{0, 0});
  back.resize(1);
  REQUIRE(file->read<float>(*file->find("scalar"), back));
  CHECK(back[0] == -2.5f);
  CHECK(std::memcmp(file->find("whole")->bytes.data(), i.data(), 16) == 0);
  back.resize(2);
  CHECK(mentions(file->read<float>(*file->find("whole"), back).error(), "whole: expected F64, F32, F16 or BF16, found I64"));
  back.resize(3);
  CHECK(mentions(file->read<float>(*file->find("double"), back).error(), "1 of 3 that are NaN or infinite"));  // -1e300 is no float
  CHECK(mentions(file->expect("half", std::vector<Index>{3, 2}).error(), "half: expected shape [3, 2], found [2, 3]"));
  CHECK(mentions(file->expect("none", std::vector<Index>{3}).error(), "expected a tensor none of shape [3], found none"));
}

TEST_CASE("large transposed and halved tensors pass the buffer's borders") {
  TemporaryDirectory dir;
  const Index rows = 301, cols = 517;
  Matrix<double> m(cols, rows);
  for (Index k = 0; k < m.size(); ++k) m.data()[k] = static_cast<double>(k);
  REQUIRE(
      write_safetensors(dir / "a", std::vector<NamedTensor>{{"m", Dtype::F64, {rows, cols}, static_cast<const double*>(m.data()), true}}));
  const auto file = SafetensorsFile::open(dir / "a");
  REQUIRE(file);
  Matrix<double> back(rows, cols);
  REQUIRE(file->read<double>(file->tensors()[0], {back.data(), static_cast<std::size_t>(back.size())}));
  CHECK(back == m.transpose());
}

TEST_CASE("an arena comes back to the bit, and a tensor that is not its own is named") {
  TemporaryDirectory dir;
  auto layout = std::make_shared<ArenaLayout>();
  layout->add("w", 3, 5, ParameterKind::hidden);
  layout->add("b", 1, 5, ParameterKind::vector);
  Arena<float> arena(layout), back(layout);
  for (const TensorInfo& info : layout->tensors()) (*arena.view(info)).setRandom();
  REQUIRE(write_safetensors(dir / "a", arena_tensors(arena, Dtype::F32, "adam.m.")));
  const auto file = SafetensorsFile::open(dir / "a");
  REQUIRE(file);
  CHECK(file->find("adam.m.b")->shape == std::vector<Index>{5});
  REQUIRE(read_arena(*file, "adam.m.", back));
  CHECK(std::memcmp(arena.values().data(), back.values().data(), arena.values().size_bytes()) == 0);
  CHECK(mentions(read_arena(*file, "adam.v.", back).error(), "expected a tensor adam.v.w of shape [3, 5], found none"));
}

TEST_CASE("the writer refuses a caller's mistake and a value that does not fit") {
  TemporaryDirectory dir;
  const float big[] = {70000.0f};
  const NamedTensor a{"a", Dtype::F32, {1}, big, false};
  CHECK_THROWS_AS((void)write_safetensors(dir / "a", std::vector<NamedTensor>{a, a}), std::invalid_argument);
  CHECK_THROWS_AS((void)write_safetensors(dir / "a", std::vector<NamedTensor>{{"\xff", Dtype::F32, {1}, big, false}}),
                  std::invalid_argument);
  CHECK_THROWS_AS((void)write_safetensors(dir / "a", std::vector<NamedTensor>{{"a", Dtype::U8, {1}, big, false}}), std::invalid_argument);
  CHECK(mentions(write_safetensors(dir / "a", std::vector<NamedTensor>{{"a", Dtype::F16, {1}, big, false}}).error(),
                 "a: expected numbers that F16 can hold"));
  CHECK(mentions(write_safetensors(dir / "no" / "a", std::vector<NamedTensor>{a}).error(),
                 "could not be written: No such file or directory"));
  CHECK(mentions(write_safetensors("/dev/full", std::vector<NamedTensor>{a}).error(),
                 "/dev/full: could not be written: No space left on device"));
}

TEST_CASE("lying headers are refused, each with its reason") {
  const std::string four(4, '\0'), eight(8, '\0');
  CHECK(error_of("{}") == "");
  CHECK(error_of("{}   ") == "");
  CHECK(error_of(one("F32", "[1]", "[0,4]"), four) == "");
  CHECK(error_of(one("F32", "[]", "[0,4]"), four) == "");
  CHECK(error_of(one("F32", "[0,99]", "[0,0]")) == "");
  CHECK(mentions(error_of(""), "starts with '{'"));
  CHECK(mentions(error_of(" {}"), "starts with '{'"));
  CHECK(mentions(error_of("\xef\xbb\xbf{}"), "starts with '{'"));
  CHECK(mentions(error_of("{"), "valid JSON"));
  CHECK(mentions(error_of("{}x"), "valid JSON"));
  CHECK(mentions(error_of(std::string("{}\0x", 4)), "zero byte"));
  CHECK(mentions(error_of(one("F32", "[1]", "[0,4]", "\xff"), four), "valid JSON in UTF-8"));
  CHECK(mentions(error_of(one("F31", "[1]", "[0,4]"), four), "a: expected a dtype among"));
  CHECK(mentions(error_of(one("F32", "[2]", "[0,4]"), four), "a: expected 8 bytes for shape [2], found data_offsets [0,4]"));
  CHECK(mentions(error_of(one("F32", "[1]", "[4,0]"), four), "a: expected 4 bytes"));
  CHECK(mentions(error_of(one("F32", "[1]", "[-4,0]"), four), "two data_offsets"));
  CHECK(mentions(error_of(one("F32", "[1]", "[0,4.0]"), four), "two data_offsets"));
  CHECK(mentions(error_of(one("F32", "[1]", "[0]"), four), "two data_offsets"));
  CHECK(mentions(error_of(one("F32", "[-1]", "[0,4]"), four), "expected a shape"));
  CHECK(mentions(error_of(one("F32", "[4294967296,4294967296]", "[0,0]")), "fits in memory"));
  CHECK(mentions(error_of(one("F32", "[0,4294967296,4294967296]", "[0,0]")), "fits in memory"));
  CHECK(mentions(error_of(one("F32", "[18446744073709551615]", "[0,0]")), "expected a shape"));
  CHECK(mentions(error_of(one("F64", "[2305843009213693952]", "[0,0]")), "fits in memory"));  // 8·2^61 wraps to 0
  CHECK(mentions(error_of(one("F32", "[1]", "[0,4]"), eight), "expected 4 bytes of tensors, found 8"));
  CHECK(mentions(error_of(one("F32", "[2]", "[0,8]"), four), "expected 8 bytes of tensors, found 4 (the file is cut)"));
  const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})", b = R"("b":{"dtype":"F32","shape":[1],"data_offsets":)";
  CHECK(error_of("{" + a + "," + b + "[4,8]}}", eight) == "");
  CHECK(mentions(error_of("{" + a + "," + b + "[8,12]}}", eight + four), "b: expected data from byte 4 on, found 8"));
  CHECK(mentions(error_of("{" + a + "," + b + "[0,4]}}", four), "b: expected data from byte 4 on, found 0"));
  CHECK(mentions(error_of("{" + a + "," + a + "}", four), "the key a twice"));
  CHECK(mentions(error_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four), "the key dtype twice"));
  CHECK(mentions(error_of(R"({"a\n":1})"), "a\\x0a: expected dtype"));
  CHECK(mentions(error_of(R"({"a":{"dtype":"F32","shape":[1]}})"), "expected dtype, shape and data_offsets"));
  CHECK(mentions(error_of(R"({"__metadata__":{"k":1}})"), "__metadata__: k: expected a string, found 1"));
  CHECK(mentions(error_of(R"({"__metadata__":[]})"), "__metadata__: expected an object"));
  CHECK(mentions(error_of(R"({"__metadata__":{"k":"1","k":"2"}})"), "the key k twice"));
  CHECK(error_of("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}") != "");
  CHECK(error_of("{\"a\":" + std::string(100000, '[')) != "");
}

TEST_CASE("a length that lies") {
  std::string bytes = file_bytes(one("F32", "[1]", "[0,4]"), std::string(4, '\0'));
  const auto with_length = [&](std::uint64_t n) {
    std::memcpy(bytes.data(), &n, 8);
    const auto file = parse(bytes);
    return file ? std::string() : file.error();
  };
  CHECK(mentions(with_length(100'000'001), "at most 100000000 bytes"));
  CHECK(mentions(with_length(std::numeric_limits<std::uint64_t>::max()), "at most 100000000 bytes"));
  CHECK(mentions(with_length(bytes.size() - 7), "(the file is cut)"));
  CHECK(with_length(0) != "");
}

TEST_CASE("cut at every byte, and every bit of the header flipped: an error or a file that holds together") {
  TemporaryDirectory dir;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  REQUIRE(write_safetensors(
      dir / "a", std::vector<NamedTensor>{{"x", Dtype::F32, {2, 2}, values.data(), false}, {"y", Dtype::F16, {2}, values.data(), false}},
      {{"format", "pt"}}));
  const std::string bytes = slurp(dir / "a");
  REQUIRE(parse(bytes));
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    if (parse(bytes.substr(0, n))) FAIL("taken though cut at " << n);
  }
  int refused = 0;
  for (std::size_t k = 0; k < (bytes.size() - 20) * 8; ++k) {
    std::string flipped = bytes;
    flipped[k / 8] = static_cast<char>(flipped[k / 8] ^ (1 << k % 8));
    const auto file = parse(flipped);
    refused += !file;
    if (!file) continue;
    std::size_t total = 0;
    for (const TensorEntry& t : file->tensors()) {
      total += t.bytes.size();
      Index count = 1;
      for (const Index n : t.shape) count *= n;
      if (count != t.size()) FAIL("shape and bytes differ after flipping bit " << k);
    }
    if (total != 20) FAIL("not all data belong to a tensor after flipping bit " << k);
  }
  CHECK(refused > 500);
}

TEST_CASE("what is no file at all") {
  TemporaryDirectory dir;
  CHECK(mentions(SafetensorsFile::open(dir / "none").error(), "could not be read: No such file or directory"));
  CHECK(mentions(SafetensorsFile::open(dir.path).error(), "expected a file, found a directory"));
  CHECK(mentions(SafetensorsFile::open("/dev/zero").error(), "expected a file, found a device"));
  spill(dir / "empty", "");
  CHECK(mentions(SafetensorsFile::open(dir / "empty").error(), "expected a safetensors file, found 0 bytes"));
}

TEST_CASE("a real file by others") {
  const auto path = std::filesystem::path(GLASSFORMER_SHARED_DIR) / "data/peft_gpt2_c_attn/adapter_model.safetensors";
  if (!std::filesystem::exists(path)) {
    MESSAGE("skipped: no " << path.string());
    return;
  }
  const auto file = SafetensorsFile::open(path);
  REQUIRE_MESSAGE(file, file.error());
  CHECK(file->tensors().size() == 25);
  CHECK(file->metadata().at("format") == "pt");
}
