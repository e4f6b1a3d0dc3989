// Bench of os.v: operands from memh files in +dir=DIR, in DIR/ID; writes every edge and every register of every
// cycle to DIR/ID/dump.txt, one line a cycle, until one cycle after the last.
// With +outputs, writes the outputs alone, and which columns they are in, to DIR/ID/outputs.txt.
module bench_os #(
    parameter ID = 0,
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter WEIGHT_BITS = 8,
    parameter WEIGHT_SIGNED = 1,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 1,
    parameter ACC_BITS = 32,
    parameter ACC_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1,
    parameter DUMP = 1,
    parameter WORDS = 4096
) (
    input wire clk,
    output reg done,
    output reg [63:0] digest
);
    localparam BIAS_BITS = 64;

    reg [15:0] size [0:1];
    reg [ROWS*LANES*ACT_BITS-1:0] activations [0:WORDS-1];
    reg [COLS*LANES*WEIGHT_BITS-1:0] weights [0:WORDS-1];
    reg [COLS*BIAS_BITS-1:0] biases [0:WORDS-1];
    reg [8*512-1:0] dir, path;
    integer file, outputs;
    initial begin
        if (!$value$plusargs("dir=%s", dir)) $finish;
        $sformat(path, "%0s/%0d/size.memh", dir, ID);
        $readmemh(path, size);
        $sformat(path, "%0s/%0d/activations.memh", dir, ID);
        $readmemh(path, activations);
        $sformat(path, "%0s/%0d/weights.memh", dir, ID);
        $readmemh(path, weights);
        $sformat(path, "%0s/%0d/biases.memh", dir, ID);
        $readmemh(path, biases);
        $sformat(path, "%0s/%0d/dump.txt", dir, ID);
        file = $fopen(path, "w");
        outputs = 0;
        if ($test$plusargs("outputs")) begin
            $sformat(path, "%0s/%0d/outputs.txt", dir, ID);
            outputs = $fopen(path, "w");
        end
    end

    reg reset, run, over;
    wire busy;
    wire [15:0] fold, stream_address;
    wire [COLS*ACC_BITS-1:0] bottom;
    wire [COLS-1:0] bottom_valid;
    wire [ROWS*COLS-1:0] overflow, bias_overflow;

    os #(
        .ROWS(ROWS), .COLS(COLS), .WEIGHT_BITS(WEIGHT_BITS), .WEIGHT_SIGNED(WEIGHT_SIGNED), .ACT_BITS(ACT_BITS),
        .ACT_SIGNED(ACT_SIGNED), .BIAS_BITS(BIAS_BITS), .ACC_BITS(ACC_BITS), .ACC_SATURATE(ACC_SATURATE),
        .LANES(LANES), .DEPTH(DEPTH), .BANKS(BANKS)
    ) dut (
        .clk(clk), .reset(reset), .run(run), .busy(busy), .fold_count(size[0]), .length(size[1]),
        .stream_address(stream_address), .activation_word(activations[stream_address]),
        .weight_word(weights[stream_address]), .fold(fold), .bias_word(biases[fold]), .bottom(bottom),
        .bottom_valid(bottom_valid), .overflow(overflow), .bias_overflow(bias_overflow)
    );
    genvar r, c;
    generate
        if (DUMP != 0) begin : g_dump
            wire [ROWS*COLS*LANES*ACT_BITS-1:0] moving;
            wire [ROWS*COLS*LANES*WEIGHT_BITS-1:0] falling;
            wire [BANKS*ROWS*COLS*ACC_BITS-1:0] sums;
            for (r = 0; r < ROWS; r = r + 1) begin : g_row
                for (c = 0; c < COLS; c = c + 1) begin : g_col
                    assign moving[(r*COLS + c)*LANES*ACT_BITS +: LANES*ACT_BITS] =
                        dut.array.g_row[r].g_col[c].pe.activation;
                    assign falling[(r*COLS + c)*LANES*WEIGHT_BITS +: LANES*WEIGHT_BITS] =
                        dut.array.g_row[r].g_col[c].pe.weight;
                    assign sums[(r*COLS + c)*ACC_BITS +: ACC_BITS] = dut.array.g_row[r].g_col[c].pe.sum_0;
                    if (BANKS == 2) begin : g_two
                        assign sums[((ROWS + r)*COLS + c)*ACC_BITS +: ACC_BITS] =
                            dut.array.g_row[r].g_col[c].pe.g_two.sum_1;
                    end
                end
            end
            always @(posedge clk)
                if (run && !over) begin
                    $fwrite(file, "%h %h %h %h ", dut.array.left, dut.array.top, dut.array.first, dut.array.bank);
                    $fwrite(file, "%h %h ", dut.array.drain, dut.array.drain_bank);
                    $fwrite(file, "%h %h ", dut.array.bias, dut.array.bias_out_of_range);
                    $fwrite(file, "%h %h ", bottom, bottom_valid);
                    $fwrite(file, "%h %h %h %h %h\n", moving, falling, sums, overflow, bias_overflow);
                end
        end
    endgenerate

    initial begin
        reset = 1'b1;
        run = 1'b0;
        over = 1'b0;
        digest = 64'd0;
        done = 1'b0;
    end
    // The sum of all outputs, idle columns included.
    reg [63:0] sum;
    integer i;
    always @* begin
        sum = digest;
        for (i = 0; i < COLS; i = i + 1)
            if (bottom_valid[i])
                sum = sum + {{(64-ACC_BITS){bottom[i*ACC_BITS + ACC_BITS - 1]}}, bottom[i*ACC_BITS +: ACC_BITS]};
    end
    always @(posedge clk) begin
        if (run && !over) digest <= sum;
        if (run && !over && outputs != 0 && |bottom_valid) $fwrite(outputs, "%h %h\n", bottom_valid, bottom);
        reset <= 1'b0;
        run <= !reset;
        over <= run && !busy;
        if (over && !done) begin
            $fclose(file);
            if (outputs != 0) $fclose(outputs);
        end
        done <= over;
    end
endmodule
