# frozen_string_literal: true

# The "OpenAI Compatible Endpoint" source of an AI Squared (Multiwoven) server, answered by the `openai-compatible`
# program. Its name, icon and saved connectors stay as they are. README.md says where this file goes.

require "open3"
require "socket"
require "tmpdir"

module Multiwoven::Integrations::Source::GenericOpenAI
  # The process that answers: one for all threads and all processes of this user. It ends when it is unused.
  module Resident
    FOLDER = File.join(Dir.tmpdir, "openai-compatible-#{Process.euid}")
    SECONDS = 10 # that it may take to start
    STARTING = Mutex.new

    # Returns a connection that is ready to be asked; nil where there can be none, so that a process is made per call.
    def self.connection(program, environment)
      path = socket(program)
      connected(path) || STARTING.synchronize { connected(path) || started(path, program, environment) }
    rescue SystemCallError, ArgumentError # such as a path that is too long for a socket
      nil
    end

    # It is named by the program's age, so that a new version has a process of its own.
    def self.socket(program)
      file = ENV["PATH"].to_s.split(":").map { |folder| File.join(folder, program.first) }.find { |each| File.file?(each) }
      File.join(FOLDER, "multiwoven-#{file ? File.mtime(file).to_i : 0}.sock")
    end

    def self.started(path, program, environment)
      Dir.mkdir(FOLDER, 0o700) unless File.exist?(FOLDER)
      folder = File.lstat(FOLDER)
      return unless folder.directory? && folder.owned? && (folder.mode & 0o077).zero?

      nowhere = { in: File::NULL, out: File::NULL, err: File::NULL, pgroup: true, unsetenv_others: true }
      command = [*program, "serve", "--protocol", "multiwoven", "--socket", path]
      process = Process.detach(Process.spawn(environment, *command, **nowhere))
      ends = now + SECONDS
      connection = nil
      sleep 0.01 until (connection = connected(path)) || !process.alive? || now > ends
      connection || connected(path) # another process of this user may have started it at the same moment
    end

    def self.connected(path)
      connection = UNIXSocket.new(path)
      connection.gets ? connection : connection.close # it greets, unless it is about to end
    rescue Errno::ENOENT, Errno::ECONNREFUSED, Errno::ECONNRESET
      nil
    end

    def self.now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  class Client
    PROGRAM = %w[openai-compatible].freeze
    # None of the server's own variables but those without which no program runs.
    ENVIRONMENT = ENV.to_h.slice("PATH", "HOME", "LANG", "TMPDIR").freeze

    def connector_spec
      @@connector_spec ||= ConnectorSpecification.from_json(first("spec").to_json)
    rescue SystemCallError # the program is missing: the server's list of sources should not be
      super
    end

    def check_connection(connection_config)
      ConnectionStatus.from_json(first("check", connection_config).to_json).to_multiwoven_message
    rescue StandardError => e
      failure_status(e)
    end

    def discover(connection_config = nil)
      Catalog.from_json(first("discover", connection_config || {}).to_json).to_multiwoven_message
    rescue StandardError => e
      handle_exception(e, { context: "OPENAI COMPATIBLE:DISCOVER:EXCEPTION", type: "error" })
    end

    # Returns the records, or yields each as it arrives if the connection streams; an error is a log message.
    def read(sync_config)
      return [] if sync_config.offset.to_i.positive? # everything came with the first page

      connection = sync_config.source.connection_specification.with_indifferent_access
      records = []
      each_record(connection, sync_config.model.query, sync_config.model.query_type) do |record|
        connection[:is_stream] && block_given? ? yield([record]) : records << record
      end
      records
    rescue StandardError => e
      handle_exception(e, { context: "OPENAI COMPATIBLE:READ:EXCEPTION", type: "error" })
    end

    private

    # The server calls this to try a model out. It shows what is raised, and expects records otherwise.
    def run_model(connection_config, payload)
      whole = connection_config.with_indifferent_access.merge(is_stream: false)
      enum_for(:each_record, whole, payload.to_json, "ai_ml").to_a
    end

    def each_record(connection, query, query_type)
      run("read", connection, { query: query, query_type: query_type }) do |message|
        yield RecordMessage.new(message["record"].transform_keys(&:to_sym)).to_multiwoven_message
      end
    end

    def first(...) = enum_for(:run, ...).to_a.first.then { |message| message[message["type"]] }

    # An `input` would be a file of this server.
    def run(verb, connection = {}, model = {}, &block)
      connection = connection.with_indifferent_access.except(:input)
      sync = { source: { connection_specification: connection }, model: model }
      resident = Resident.connection(PROGRAM, ENVIRONMENT)
      return called(verb, sync, &block) unless resident

      begin
        resident.puts({ verb: verb, sync_config: sync }.to_json)
        code, error = told(resident, &block)
        raise(code ? error : "#{PROGRAM.first} has ended in the middle of a call") unless code&.zero?
      ensure
        resident.close
      end
    end

    # Secrets go through a pipe, never to a file or an argument.
    def called(verb, sync, &block)
      arguments = [*PROGRAM, "--protocol", "multiwoven", verb, "--sync-config", "/dev/stdin"]
      Open3.popen2(ENVIRONMENT, *arguments, unsetenv_others: true) do |stdin, stdout, process|
        stdin.write(sync.to_json)
        stdin.close
        _, error = told(stdout, &block)
        raise error unless process.value.success?
      end
    end

    # Yields the messages; returns the exit code, where it is told, and the reason of a failure.
    def told(output)
      code, error = nil, "#{PROGRAM.first} failed: see the server's log"
      output.each_line do |line|
        message = JSON.parse(line)
        case message["type"]
        when "log" then error = message["log"]["message"]
        when "exit" then code = message["code"]
        else yield(message)
        end
      end
      [code, error]
    end
  end
end
