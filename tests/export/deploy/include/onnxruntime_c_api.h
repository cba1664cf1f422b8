/* What the generated program calls of ONNX Runtime, at its place in the table of functions.

   For machines with the library of the Python wheel and without its headers. The table only ever
   grows at its end, so places do not change between versions. ONNXRUNTIME_ROOT names a release to
   compile against instead. */
#pragma once

#include <cstddef>
#include <cstdint>

#define ORT_API_VERSION 17

struct OrtEnv;
struct OrtMemoryInfo;
struct OrtRunOptions;
struct OrtSession;
struct OrtSessionOptions;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_FATAL = 4 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };
enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7
};

template <typename... Arguments>
using Call = OrtStatus* (*)(Arguments...) noexcept;
template <typename Object>
using Release = void (*)(Object*);
using Unused = void (*)();

struct OrtApi {
  Unused from_0[2];
  const char* (*GetErrorMessage)(const OrtStatus*) noexcept;  /* 2 */
  Call<OrtLoggingLevel, const char*, OrtEnv**> CreateEnv;
  Unused from_4[3];
  Call<const OrtEnv*, const char*, const OrtSessionOptions*, OrtSession**> CreateSession;  /* 7 */
  Unused from_8[1];
  Call<OrtSession*, const OrtRunOptions*, const char* const*, const OrtValue* const*, std::size_t,
       const char* const*, std::size_t, OrtValue**>
      Run;  /* 9 */
  Call<OrtSessionOptions**> CreateSessionOptions;
  Unused from_11[11];
  Call<OrtSessionOptions*, int> SetSessionLogSeverityLevel;  /* 22 */
  Unused from_23[1];
  Call<OrtSessionOptions*, int> SetIntraOpNumThreads;  /* 24 */
  Unused from_25[5];
  Call<const OrtSession*, std::size_t*> SessionGetInputCount;  /* 30 */
  Unused from_31[18];
  Call<const OrtMemoryInfo*, void*, std::size_t, const std::int64_t*, std::size_t,
       ONNXTensorElementDataType, OrtValue**>
      CreateTensorWithDataAsOrtValue;  /* 49 */
  Unused from_50[1];
  Call<OrtValue*, void**> GetTensorMutableData;  /* 51 */
  Unused from_52[8];
  Call<const OrtTensorTypeAndShapeInfo*, ONNXTensorElementDataType*> GetTensorElementType;  /* 60 */
  Call<const OrtTensorTypeAndShapeInfo*, std::size_t*> GetDimensionsCount;
  Call<const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t> GetDimensions;
  Unused from_63[2];
  Call<const OrtValue*, OrtTensorTypeAndShapeInfo**> GetTensorTypeAndShape;  /* 65 */
  Unused from_66[3];
  Call<OrtAllocatorType, OrtMemType, OrtMemoryInfo**> CreateCpuMemoryInfo;  /* 69 */
  Unused from_70[22];
  Release<OrtEnv> ReleaseEnv;  /* 92 */
  Release<OrtStatus> ReleaseStatus;
  Release<OrtMemoryInfo> ReleaseMemoryInfo;
  Release<OrtSession> ReleaseSession;
  Release<OrtValue> ReleaseValue;
  Unused from_97[2];
  Release<OrtTensorTypeAndShapeInfo> ReleaseTensorTypeAndShapeInfo;  /* 99 */
  Release<OrtSessionOptions> ReleaseSessionOptions;
  Unused from_101[29];
  Call<OrtSessionOptions*, const char*, const char*> AddSessionConfigEntry;  /* 130 */
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version) noexcept;
  const char* (*GetVersionString)() noexcept;
};

extern "C" const OrtApiBase* OrtGetApiBase() noexcept;
